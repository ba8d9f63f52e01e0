"""The folders of a run's checkpoints: their names and order, and the removal of the oldest."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ppo_and_friends.common.atomic_files import TEMPORARY

NAME = re.compile(r"(\d{12,})(?:-(\d+))?")
"""Timesteps, and a number where there are several of as many."""


def order(folder: Path) -> tuple[int, int]:
    """A checkpoint's timesteps, and which of several with as many it is: what checkpoints are ordered by."""
    match = NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first, including damaged ones."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=order, reverse=True)


def saved_checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their number of timesteps; of several, the newest."""
    return {order(path)[0]: path for path in reversed(checkpoints(folder))}


def available_path(folder: Path, timesteps: int) -> Path:
    """Return an unused path, because a checkpoint of the same timesteps is removed only after this one."""
    taken = [number for steps, number in map(order, checkpoints(folder)) if steps == timesteps]
    suffix = f"-{max(taken) + 1}" if taken else ""
    return folder / f"{timesteps:012d}{suffix}"


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished checkpoints of a run that was killed while writing them."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints, counted up to ``newest``; set later ones aside."""
    steps, _ = order(newest)
    kept = 0
    last = None
    for path in checkpoints(folder):
        own_steps, _ = order(path)
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
