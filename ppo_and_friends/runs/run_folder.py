"""The folder a run lives in: where its files are, who may write there, and starting over."""

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
from ppo_and_friends.errors import UsageError

LOCK, HOLDER = ".lock", ".lock-holder.json"
FILES = (
    "progress.csv",
    "experiment.json",
    "experiment.dill",
    "test_scores.json",
    "learning_curve.png",
    "report.html",
    "wandb.json",
)
"""What a run writes directly into its folder and ``clobber`` removes."""

CHECKPOINT_FILES = ("[0-9]" * 12 + "*", "latest", f"{TEMPORARY}*")
TENSORBOARD_FILES = ("events.out.tfevents.*",)


class RunFolder:
    """Paths of a run's files.

    Args:
        path: The run's folder, ``<state_path>/<launcher name>``. It need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.progress = self.path / "progress.csv"
        self.experiment = self.path / "experiment.json"
        self.test_scores = self.path / "test_scores.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.tensorboard = self.path / "tensorboard"

    @contextmanager
    def lock(self, comm: Communicator) -> Iterator[None]:
        """Make the folder if need be, and be the only job that writes there. A collective.

        The operating system frees the lock when its holder ends, however it ends.

        Raises:
            UsageError: On all ranks: another job holds it, or the folder can't be written.
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
        """Take the lock; what to tell the user if that fails."""
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
                f"Another job writes to {self.path}: {self._holder()}.\n"
                "Wait for it, stop it, or give this one another --state_path."
            )
        except OSError as error:
            if lock.is_locked:
                lock.release()
            return (
                f"The run's folder {self.path} can't be written: {error.strerror or error}.\n"
                "Choose another place with --state_path."
            )
        return None

    def _holder(self) -> str:
        try:
            holder = json.loads((self.path / HOLDER).read_bytes())
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it has just started"

    def clobber(self) -> None:
        """Remove what earlier runs saved here, and nothing else. On rank 0, holding the lock.

        Raises:
            UsageError: Something can't be removed.
        """
        try:
            # Checkpoints first: half a removal must not look like a run to resume.
            self._empty(self.checkpoints, CHECKPOINT_FILES)
            self._empty(self.best, CHECKPOINT_FILES)
            self._empty(self.tensorboard, TENSORBOARD_FILES)
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
            for path in self.path.glob(f"{TEMPORARY}*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"--clobber can't remove {error.filename}: {error.strerror}.") from error

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
