"""Checkpoints that are written atomically, verified when read, and free of pickled objects.

A checkpoint is a folder whose name is its number of timesteps. It contains ``tensors.safetensors``,
``state.json`` and ``manifest.json``, which holds SHA-256 checksums of the other two files and of itself.
It is written under a temporary name, flushed to the disk and renamed. Then the file ``latest`` is
updated with its name, and only after that are the oldest checkpoints removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch

from ppo_and_friends.common.atomic_files import TEMPORARY, replace_file, sync_folder, write_synced
from ppo_and_friends.common.plain_json import LARGEST, parsed, read_regular
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.runs.checkpoint_folders import (
    available_path,
    checkpoints,
    order,
    prune,
    remove_leftovers,
)

T = TypeVar("T")

FORMAT = 1
TENSORS, STATE, MANIFEST, LATEST = "tensors.safetensors", "state.json", "manifest.json", "latest"
ENVIRONMENTS = "environments.safetensors"
"""States of environments and rows, in checkpoints of runs that resume exactly. No policy needs it."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    """The checkpoint's folder."""

    timesteps: int
    """The run's number of agent steps when the checkpoint was written."""

    tensors: dict[str, torch.Tensor]
    """The tensors, on the CPU, with the names, shapes and dtypes with which they were saved."""

    state: dict[str, Any]
    """Everything else, as parsed from JSON (tuples have become lists)."""

    manifest: dict[str, Any]
    """Versions, number of ranks, the experiment's settings and whatever else the writer added."""

    notes: tuple[str, ...] = field(default=())
    """Messages for the user about newer checkpoints that are damaged, one line each."""


def _plain(value: Any) -> Any:
    """Convert a NumPy or torch scalar, or a small array, to a JSON value."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    raise TypeError(f"a checkpoint's state must be plain data, not {type(value).__name__}")


def _json(value: Any) -> bytes:
    return json.dumps(value, default=_plain, indent=1, sort_keys=True).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def save_checkpoint(
    folder: Path,
    timesteps: int,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    manifest_extra: Mapping[str, Any] | None = None,
    keep: int = 2,
    environments: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a checkpoint, make it the latest one, and remove the oldest ones. For rank 0 only.

    If a run had to resume from an earlier checkpoint because newer ones are damaged, those have *more*
    timesteps than this one. They are renamed with the suffix ``.damaged``.

    Args:
        folder: The folder of the run's checkpoints; created if missing. No other process may write to it.
        timesteps: Number of agent steps of the run so far, at least 0.
        tensors: Tensors of any shape and dtype by unique name; they may be views of a shared buffer.
        state: Everything else: JSON values (keys become strings, tuples become lists), NumPy and torch
            scalars, and small arrays (which become lists).
        manifest_extra: Additions to the manifest, such as the number of ranks and the settings.
        keep: Number of checkpoints to keep, including this one, at least 1.
        environments: States of environments and rows, by name; None: they aren't saved.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: The checkpoint can't be written, for example because the disk is full. Earlier
            checkpoints are intact.
        TypeError: ``state`` or ``manifest_extra`` isn't plain data. Nothing has been written.
    """
    state_bytes = _json(state)
    plain_extra = json.loads(_json(manifest_extra or {}))
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    files = {TENSORS: safetensors.torch.save(copies), STATE: state_bytes}
    if environments is not None:
        files[ENVIRONMENTS] = safetensors.torch.save(dict(environments))
    body = plain_extra | {
        "format": FORMAT,
        "timesteps": int(timesteps),
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "files": {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()},
    }
    files[MANIFEST] = _json(body | {"sha256": _sha256(_json(body))})
    temporary = folder / f"{TEMPORARY}{timesteps:012d}-{os.getpid()}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
        remove_leftovers(folder)
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_folder(temporary)
        final = available_path(folder, timesteps)
        temporary.rename(final)
        sync_folder(folder)
        replace_file(folder / LATEST, f"{final.name}\n".encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise CheckpointError(
            f"The checkpoint at {timesteps} timesteps can't be written to {folder}: {why}.\n"
            "Earlier checkpoints are intact. Free disk space, or choose another folder with --state_path."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    prune(folder, final, keep)
    return final


def damaged(checkpoint: Checkpoint, file: str, what: str) -> CheckpointError:
    """The error for content that can't be a run's, though its checksums are right.

    Args:
        checkpoint: Where it was found.
        file: Name of the file.
        what: The key, and what is wrong with it.
    """
    return CheckpointError(f"Checkpoint {checkpoint.path} is damaged: {file}: {what}.")


def read_checkpoint(path: Path, check: Callable[[Checkpoint], None] | None = None) -> Checkpoint:
    """Read and verify a checkpoint, without ever executing code from it.

    Args:
        path: The checkpoint's folder.
        check: Raises CheckpointError if the content is not what it has to be.

    Raises:
        CheckpointError: The checkpoint is damaged, incomplete, or of a later format.
    """
    file = MANIFEST
    try:
        manifest = parsed(read_regular(path / MANIFEST, LARGEST))
        digest = manifest.pop("sha256", None)
        if digest != _sha256(_json(manifest)):
            raise ValueError("it doesn't match its own checksum")
        timesteps, format = (_count(manifest, name) for name in ("timesteps", "format"))
        if format > FORMAT:
            raise ValueError(
                f"written by a later version of the project (format {format}; this version "
                f"reads formats up to {FORMAT})"
            )
        contents: dict[str, bytes] = {}
        for file in (TENSORS, STATE):
            expected = manifest["files"][file]
            contents[file] = read_regular(path / file, LARGEST if file == STATE else None)
            if len(contents[file]) != expected["bytes"]:
                raise ValueError(f"it has {len(contents[file])} bytes, not {expected['bytes']}")
            if _sha256(contents[file]) != expected["sha256"]:
                raise ValueError("it doesn't match its checksum")
        state = parsed(contents[STATE])
        file = TENSORS
        tensors = safetensors.torch.load(contents[TENSORS])
    except FileNotFoundError:
        raise CheckpointError(f"Checkpoint {path} is damaged: {file} is missing.") from None
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} can't be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {file}: {error}.") from error
    except Exception as error:  # of the tensors' format, or a manifest whose values are of other kinds
        raise CheckpointError(
            f"Checkpoint {path} is damaged: {file}: {type(error).__name__}: {error}."
        ) from error
    found = Checkpoint(path, timesteps, tensors, state, manifest)
    if check is not None:
        check(found)
    return found


def read_environments(checkpoint: Checkpoint) -> dict[str, torch.Tensor] | None:
    """The states of environments and rows that a checkpoint holds; None: it holds none.

    Raises:
        CheckpointError: The file is damaged or missing.
    """
    expected = checkpoint.manifest["files"].get(ENVIRONMENTS)
    if expected is None:
        return None
    try:
        content = read_regular(checkpoint.path / ENVIRONMENTS)
        if _sha256(content) != expected["sha256"]:
            raise ValueError("it doesn't match its checksum")
        return safetensors.torch.load(content)
    except FileNotFoundError:
        raise damaged(checkpoint, ENVIRONMENTS, "it is missing") from None
    except OSError as error:
        raise damaged(checkpoint, ENVIRONMENTS, error.strerror or str(error)) from error
    except Exception as error:  # of the tensors' format, or a manifest whose values are of other kinds
        raise damaged(checkpoint, ENVIRONMENTS, str(error)) from error


def _count(manifest: Mapping[str, Any], name: str) -> int:
    """A whole number of the manifest."""
    value = manifest.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{name} is not a whole number from 0")
    return value


def load_latest(
    folder: Path, check: Callable[[Checkpoint], None] | None = None, before: Path | None = None
) -> Checkpoint | None:
    """Read the newest intact checkpoint.

    The folder is not modified, so this is safe while a run is writing to it.

    Args:
        folder: The folder of a run's checkpoints.
        check: Raises CheckpointError if a checkpoint's content is not what it has to be.
        before: Only those that are older than this one; None: all.

    Returns:
        The checkpoint, with notes about newer ones that are damaged; None if there are no checkpoints.

    Raises:
        CheckpointError: There are checkpoints, but all of them are damaged.
    """
    notes: list[str] = []
    paths = [path for path in checkpoints(folder) if before is None or order(path) < order(before)]
    for path in paths:
        try:
            found = read_checkpoint(path, check)
        except CheckpointError as error:
            notes.append(str(error))
            continue
        return replace(found, notes=(*notes, _falling_back(found)) if notes else ())
    if not paths:
        return None
    raise CheckpointError("\n".join([*notes, NONE_LEFT]))


NONE_LEFT = "There is no intact checkpoint. Use --clobber to start over."


def _falling_back(checkpoint: Checkpoint) -> str:
    return f"Falling back to the checkpoint at {checkpoint.timesteps} timesteps, {checkpoint.path.name}."


def use_newest(
    checkpoint: Checkpoint,
    use: Callable[[Checkpoint], T],
    older: Callable[[Path], Checkpoint | None] | None,
) -> tuple[Checkpoint, T]:
    """Use a checkpoint, or the newest one before it that fits.

    Args:
        checkpoint: The first to try.
        use: Restores it; raises CheckpointError if it doesn't fit, having changed nothing.
        older: Loads the newest checkpoint before the one of a path; None if there is none. A collective, if
            ``use`` is called on several ranks. None: this checkpoint or none.

    Returns:
        The checkpoint that was used, with notes about newer ones, and what ``use`` returned.

    Raises:
        CheckpointError: None fits.
    """
    notes: tuple[str, ...] = ()
    while True:
        try:
            return checkpoint, use(checkpoint)
        except CheckpointError as error:
            if older is None:
                raise
            notes = (*(note for note in checkpoint.notes if not note.startswith("Falling back")), str(error))
            try:
                found = older(checkpoint.path)
            except CheckpointError as worse:
                raise CheckpointError("\n".join([*notes, str(worse)])) from error
            if found is None:
                raise CheckpointError("\n".join([*notes, NONE_LEFT])) from error
            own = found.notes or (_falling_back(found),)
            checkpoint = replace(found, notes=(*notes, *own))
