"""Files that are there whole or not at all, even when the machine stops in between."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin."""


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems don't open folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some file systems refuse; the rename itself stands
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path``; a reader sees the old content or the new.

    Raises:
        OSError: It can't be written; the old content is still there.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
