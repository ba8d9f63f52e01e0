"""How the processes of environments are started and ended, and the file whose memory they share."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ppo_and_friends.errors import UsageError

SHARED = Path("/dev/shm")
"""A folder whose files are kept in memory."""


def start_method(asked: str) -> str:
    """How processes are started.

    Args:
        asked: ``auto``: by a server without threads, where the system has one. Forking this process would
            copy what other threads hold locked: MPI's, or those that a simulator (JAX) has started.

    Raises:
        UsageError: This system doesn't have it.
    """
    there = multiprocessing.get_all_start_methods()
    if asked == "auto":
        return "forkserver" if "forkserver" in there else "spawn"
    if asked not in there:
        raise UsageError(f"environment.start_method={asked}: this system has {', '.join(there)} only.")
    return asked


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keep new processes from importing the main program, which may have no ``if __name__ == "__main__"``.

    What it defines is pickled whole. Modules are looked for where the main program looks: until Python 3.12,
    the server that forks the processes isn't told.
    """
    main, path = sys.modules["__main__"], os.environ.get("PYTHONPATH")
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


@contextlib.contextmanager
def shared_file() -> Iterator[Path]:
    """A file for shared memory, until all have opened it."""
    plenty = SHARED.is_dir() and shutil.disk_usage(SHARED).free > 2**28
    with tempfile.TemporaryDirectory(prefix="ppo-and-friends-", dir=SHARED if plenty else None) as folder:
        yield Path(folder) / "observations"


def kill(processes: list[Any]) -> None:
    """End processes at once."""
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()
    processes.clear()
