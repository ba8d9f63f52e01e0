"""A run's folder: the paths of its files, its lock, and removal of its files to start over."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ppo_and_friends.common.atomic_files import TEMPORARY, replace_file
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import EnvironmentFault, UsageError

LOCK, HOLDER = ".lock", ".lock-holder.json"
FILES = (
    "progress.csv",
    "experiment.json",
    "experiment.dill",
    "test_scores.json",
    "learning_curve.png",
    "report.html",
    "wandb.json",
    "mlflow.json",
)
"""Files that a run writes directly to its folder and that ``clobber`` removes."""

TRACEBACKS = "environment_error*.txt"
"""What environments raised, each rank's last one, whole."""

CHECKPOINT_FILES = ("[0-9]" * 12 + "*", "latest", f"{TEMPORARY}*")
TENSORBOARD_FILES = ("events.out.tfevents.*",)


BEST = "best"
"""The folder of a run's, or a policy's, best policy so far."""

POLICIES = "policies"
"""The folder of a run's policies, each of which is a run's folder itself."""


def policies_in(folder: Path) -> dict[str, Path]:
    """The folders of a run's policies, by name; empty for a run with a single one.

    Args:
        folder: The run's, or its ``best``, for the best policies.
    """
    if folder.name == BEST and not folder.is_dir():
        best = {name: path / BEST for name, path in policies_in(folder.parent).items()}
        return {name: path for name, path in best.items() if path.is_dir()}
    inside = folder / POLICIES
    found = sorted(inside.iterdir()) if inside.is_dir() else []
    return {path.name: path for path in found if (path / "checkpoints").is_dir()}


class RunFolder:
    """The paths of a run's files.

    Args:
        path: The run's folder, ``<state_path>/<run name>``. It may not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.progress = self.path / "progress.csv"
        self.experiment = self.path / "experiment.json"
        self.test_scores = self.path / "test_scores.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / BEST
        self.tensorboard = self.path / "tensorboard"

    @contextmanager
    def lock(self, comm: Communicator) -> Iterator[None]:
        """Lock the folder against other jobs, creating it if necessary. Collective.

        The operating system releases the lock when the process that holds it ends, even after a crash.

        Raises:
            UsageError: On all ranks, if another job holds the lock or the folder can't be written.
        """
        lock = FileLock(self.path / LOCK, blocking=False, thread_local=False)
        problem = comm.broadcast(self._acquire(lock) if comm.is_main else None)
        if problem:
            raise UsageError(problem)
        try:
            yield
        finally:
            if comm.is_main:
                (self.path / HOLDER).unlink(missing_ok=True)
                lock.release()

    def _acquire(self, lock: FileLock) -> str | None:
        """Acquire the lock; return None, or an error message."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            }
            replace_file(self.path / HOLDER, json.dumps(holder).encode())
        except Timeout:
            return (
                f"Another job is writing to {self.path}: {self._holder()}.\n"
                "Wait until it ends, stop it, or train beside it with --run_name."
            )
        except OSError as error:
            if lock.is_locked:
                lock.release()
            return (
                f"The run's folder {self.path} can't be written: {error.strerror or error}.\n"
                "Choose another folder with --state_path."
            )
        return None

    def _holder(self) -> str:
        try:
            holder = json.loads((self.path / HOLDER).read_bytes())
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown process, just started"

    def clobber(self) -> None:
        """Remove the files of earlier runs, and nothing else. For rank 0 only, while it holds the lock.

        Raises:
            UsageError: A file can't be removed.
        """
        try:
            # Checkpoints first, so that a partially removed run can't be resumed by mistake.
            self._empty(self.checkpoints, CHECKPOINT_FILES)
            self._empty(self.best, (*CHECKPOINT_FILES, "test_scores.json"))
            self._empty(self.tensorboard, TENSORBOARD_FILES)
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
            for pattern in (f"{TEMPORARY}*", TRACEBACKS):
                for path in self.path.glob(pattern):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"--clobber can't remove {error.filename}: {error.strerror}.") from error

    def keep_traceback(self, error: EnvironmentFault, rank: int = 0) -> None:
        """Write what an environment raised to a file, and name the file in the error's message.

        Args:
            error: Unchanged if the environment raised nothing, or if the file can't be written.
            rank: Of this process.
        """
        if not error.traceback or not self.path.is_dir():
            return
        path = self.path / f"environment_error{f'_rank{rank}' if rank else ''}.txt"
        try:
            replace_file(path, f"{error}\n\n{error.traceback}".encode(errors="replace"))
        except OSError:
            return
        error.args = (f"{error}\n  all of it: {path}",)

    @staticmethod
    def _empty(folder: Path, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
