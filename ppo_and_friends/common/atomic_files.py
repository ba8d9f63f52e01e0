"""Atomic writing of files: after a crash or a power failure, a file has its old or its new content."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files and folders."""


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that new and renamed files survive a power failure."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems can't open folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return  # not supported by this file system; renames are still atomic
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Replace the content of ``path`` with ``data``, atomically: readers see the old or the new content.

    Raises:
        OSError: The file can't be written; the old content is intact.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
