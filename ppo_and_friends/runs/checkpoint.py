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
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from ppo_and_friends.common.atomic_files import TEMPORARY, replace_file, sync_folder, write_synced
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.errors import CheckpointError

FORMAT = 1
TENSORS, STATE, MANIFEST, LATEST = "tensors.safetensors", "state.json", "manifest.json", "latest"
NAME = re.compile(r"(\d{12,})(?:-(\d+))?")


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


def _order(folder: Path) -> tuple[int, int]:
    match = NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first, including damaged ones."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_order, reverse=True)


def _available_path(folder: Path, timesteps: int) -> Path:
    """Return an unused path, because a checkpoint of the same timesteps is removed only after this one."""
    taken = [number for steps, number in map(_order, _checkpoints(folder)) if steps == timesteps]
    suffix = f"-{max(taken) + 1}" if taken else ""
    return folder / f"{timesteps:012d}{suffix}"


def save_checkpoint(
    folder: Path,
    timesteps: int,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    manifest_extra: Mapping[str, Any] | None = None,
    keep: int = 2,
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
        _remove_leftovers(folder)
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_folder(temporary)
        final = _available_path(folder, timesteps)
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
    _prune(folder, final, keep)
    return final


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished checkpoints of a run that was killed while writing them."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints, counted up to ``newest``; set later ones aside."""
    steps, _ = _order(newest)
    kept = 0
    last = None
    for path in _checkpoints(folder):
        own_steps, _ = _order(path)
        if own_steps > steps:
            aside = path.with_name(f"{path.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        elif own_steps == last or kept >= max(keep, 1):
            _remove(path)
        else:
            last, kept = own_steps, kept + 1


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint, renaming it first, so that a partially removed one never has a valid name."""
    condemned = checkpoint.with_name(f"{TEMPORARY}removing-{checkpoint.name}")
    shutil.rmtree(condemned, ignore_errors=True)
    try:
        checkpoint.rename(condemned)
    except OSError:
        return  # keep it; too many checkpoints do no harm
    shutil.rmtree(condemned, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint, without ever executing code from it.

    Args:
        path: The checkpoint's folder.

    Raises:
        CheckpointError: The checkpoint is damaged, incomplete, or of a later format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        digest = manifest.pop("sha256", None)
        if digest != _sha256(_json(manifest)):
            raise CheckpointError(f"{MANIFEST} doesn't match its own checksum")
        if manifest["format"] > FORMAT:
            raise CheckpointError(
                f"written by a later version of the project (format {manifest['format']}; this version "
                f"reads formats up to {FORMAT})"
            )
        contents: dict[str, bytes] = {}
        for name in (TENSORS, STATE):
            contents[name] = (path / name).read_bytes()
            expected = manifest["files"][name]
            if len(contents[name]) != expected["bytes"]:
                raise CheckpointError(f"{name} has {len(contents[name])} bytes, not {expected['bytes']}")
            if _sha256(contents[name]) != expected["sha256"]:
                raise CheckpointError(f"{name} doesn't match its checksum")
        tensors = safetensors.torch.load(contents[TENSORS])
        state = json.loads(contents[STATE])
    except CheckpointError as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {error}.") from None
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise CheckpointError(f"Checkpoint {path} is damaged: {name} is missing.") from None
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} can't be read: {error.strerror or error}.") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,  # JSON that is nested too deeply
        safetensors.SafetensorError,
    ) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {type(error).__name__}: {error}.") from error
    return Checkpoint(path, int(manifest["timesteps"]), tensors, state, manifest)


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the newest intact checkpoint.

    The folder is not modified, so this is safe while a run is writing to it.

    Args:
        folder: The folder of a run's checkpoints.

    Returns:
        The checkpoint, with notes about newer ones that are damaged; None if there are no checkpoints.

    Raises:
        CheckpointError: There are checkpoints, but all of them are damaged.
    """
    notes: list[str] = []
    paths = _checkpoints(folder)
    for path in paths:
        try:
            found = read_checkpoint(path)
        except CheckpointError as error:
            notes.append(str(error))
            continue
        if notes:
            notes.append(f"Falling back to the checkpoint at {found.timesteps} timesteps, {path.name}.")
        return Checkpoint(
            found.path, found.timesteps, found.tensors, found.state, found.manifest, tuple(notes)
        )
    if not paths:
        return None
    raise CheckpointError("\n".join([*notes, "There is no intact checkpoint. Use --clobber to start over."]))
