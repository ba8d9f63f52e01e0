"""Removes shared memory that killed MPI jobs have left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

PATTERN = "mpich_shm_*"
"""Files by which a node's ranks find one another, some megabytes each; MPICH removes them at the end."""

SECONDS = 1.0
"""How old a file must be. Slurm takes longer to start a job again, whose predecessor's files must go."""


def remove_leftovers(folder: Path = Path("/dev/shm"), processes: Path = Path("/proc")) -> int:
    """Remove what this user's killed jobs have left. Call it before MPI starts.

    Under Slurm the files are named after job and step, which a job that is queued again has in common with
    its killed predecessor: what that left is taken for an answer, and MPI fails to start, each time.

    Args:
        folder: Where shared memory is.
        processes: Where the system tells of its processes.

    Returns:
        How many files were removed.
    """
    found = {path for path in folder.glob(PATTERN) if _is_old(path)}
    removed = 0
    for path in found - _used(folder, processes) if found else ():
        try:
            path.unlink()
        except OSError:  # another rank was faster
            continue
        removed += 1
    return removed


def _is_old(path: Path) -> bool:
    try:
        about = path.stat()
    except OSError:
        return False
    return about.st_uid == os.getuid() and about.st_mtime < time.time() - SECONDS


def _used(folder: Path, processes: Path) -> set[Path]:
    """The files that a process has open or in its memory, as far as this one may know."""
    used: set[Path] = set()
    start = f"{folder}/"
    # Open files first: whoever closes one after having mapped it is seen by one of the two.
    for handle in processes.glob("[0-9]*/fd/*"):
        try:
            used.add(handle.readlink())
        except OSError:  # it was closed, or is another user's
            continue
    for maps in processes.glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:  # it has ended, or is another user's
            continue
        for line in lines:
            place = line.find(start)
            if place >= 0:
                used.add(Path(line[place:].removesuffix(" (deleted)")))
    return used
