"""Checkpoints: atomic, verified, and free of pickles.

A checkpoint is a folder, named by its timesteps, with ``tensors.safetensors``, ``state.json`` and
``manifest.json``, which has the SHA-256 of the other two and of itself. It is written under a
temporary name, synced to the disk and renamed; the file ``latest`` then names it; only then are
the oldest ones removed.
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
    """Its folder."""

    timesteps: int
    """Agent steps of the run when it was written."""

    tensors: dict[str, torch.Tensor]
    """On the CPU, with the names, shapes and dtypes they were saved with."""

    state: dict[str, Any]
    """Everything else, as JSON gives it back: tuples have become lists."""

    manifest: dict[str, Any]
    """Versions, world size, the experiment's settings and what else the writer added."""

    notes: tuple[str, ...] = field(default=())
    """What went wrong with newer checkpoints, a line each, to be shown to the user."""


def _plain(value: Any) -> Any:
    """A NumPy or torch scalar, or a small array, as JSON has it."""
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
    """The checkpoints in ``folder``, damaged ones included, newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_order, reverse=True)


def _free_name(folder: Path, timesteps: int) -> Path:
    """A name for a new checkpoint: one of the same timesteps is replaced only once this one stands."""
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
    """Write a checkpoint, make it the latest, and remove the oldest ones. On rank 0 alone.

    Checkpoints of *more* timesteps than this one, which a run leaves behind that had to go back to
    an earlier one because they were damaged, are set aside under a name that ends in ``.damaged``.

    Args:
        folder: Where the checkpoints are; made if missing. Nobody else may be writing there.
        timesteps: Agent steps of the run so far, at least 0.
        tensors: By unique name, of any shape and dtype; views of a common buffer are fine.
        state: Everything else: what JSON can hold (so keys become text and tuples lists), and NumPy
            scalars and small arrays (as lists).
        manifest_extra: For the manifest: world size, the experiment's settings.
        keep: Checkpoints to keep, this one included, at least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: It can't be written, as on a full disk. Earlier checkpoints are intact.
        TypeError: ``state`` or ``manifest_extra`` is not plain data. Nothing was written.
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
        final = _free_name(folder, timesteps)
        temporary.rename(final)
        sync_folder(folder)
        replace_file(folder / LATEST, f"{final.name}\n".encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise CheckpointError(
            f"The checkpoint at {timesteps} timesteps can't be written to {folder}: {why}.\n"
            "Earlier checkpoints are intact; make room or choose another place with --state_path."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder, final, keep)
    return final


def _remove_leftovers(folder: Path) -> None:
    """What a killed run was writing."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Keep the ``keep`` newest of different timesteps, ``newest`` among them."""
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
    """Remove a checkpoint so that no half of one is ever seen under its name."""
    condemned = checkpoint.with_name(f"{TEMPORARY}removing-{checkpoint.name}")
    shutil.rmtree(condemned, ignore_errors=True)
    try:
        checkpoint.rename(condemned)
    except OSError:
        return  # it stays: too many checkpoints are better than none
    shutil.rmtree(condemned, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint and verify it. No code in it is ever executed.

    Args:
        path: The checkpoint's folder.

    Raises:
        CheckpointError: Damaged, incomplete, or of a later format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        digest = manifest.pop("sha256", None)
        if digest != _sha256(_json(manifest)):
            raise CheckpointError(f"{MANIFEST} doesn't match its own checksum")
        if manifest["format"] > FORMAT:
            raise CheckpointError(f"written by a later version (format {manifest['format']}, not {FORMAT})")
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
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {type(error).__name__}: {error}.") from error
    return Checkpoint(path, int(manifest["timesteps"]), tensors, state, manifest)


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, with notes about the newer ones that aren't.

    Changes nothing in the folder, so it may be called while a run is writing there.

    Args:
        folder: Where the checkpoints are.

    Returns:
        None if there is no checkpoint at all.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
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
            notes.append(f"Going back to the checkpoint at {found.timesteps} timesteps, {path.name}.")
        return Checkpoint(
            found.path, found.timesteps, found.tensors, found.state, found.manifest, tuple(notes)
        )
    if not paths:
        return None
    raise CheckpointError("\n".join([*notes, "No checkpoint is left to go back to; --clobber starts over."]))
