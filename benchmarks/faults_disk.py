"""A disk that is full, out of inodes or quota, read-only, or whose folder is removed, while a run saves.

Where this process may mount, it is a small disk of its own (tmpfs); otherwise what needs one is left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from benchmarks.fault_cases import Case, arguments, complete, in_child, newest, run_folder
from ppo_and_friends.common import atomic_files
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import RolloutRequest
from ppo_and_friends.runs import checkpoint

TIMESTEPS = 640
"""About ten iterations, with a checkpoint each."""

BEGINS, PASSES, NEVER = 4, 7, 1_000
"""Iterations at which the trouble begins, and at which it is over."""

PLACE = "FAULTS_DISK"
"""Environment variable with the folder in which the trouble is."""

SIZE = "size=3m,nr_inodes=200"
BALLAST = "ballast"


class Trouble(Friend):
    """Makes trouble on the disk at one iteration, and ends it at another."""

    source = "benchmarks"
    only_watches = True

    def __init__(self, how: str, begins: int = BEGINS, ends: int = NEVER) -> None:
        """Args: how: A key of `TROUBLES`. begins: Iteration. ends: Iteration."""
        super().__init__()
        self.how, self.begins, self.ends = how, begins, ends

    def before_rollout(self, request: RolloutRequest) -> None:
        """Begin or end it."""
        begin, end = TROUBLES[self.how]
        if request.iteration in (self.begins, self.ends):
            (begin if request.iteration == self.begins else end)(Path(os.environ[PLACE]))


def _fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / BALLAST).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def _use_up_inodes(disk: Path) -> None:
    (disk / BALLAST).mkdir()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (disk / BALLAST / str(number)).touch()


def _empty(disk: Path) -> None:
    path = disk / BALLAST
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _mount(mode: str) -> Callable[[Path], None]:
    return lambda disk: subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True) and None


def _limit(size: int) -> Callable[[Path], None]:
    return lambda disk: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _no_quota(disk: Path) -> None:
    def refused(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    checkpoint.write_synced = atomic_files.write_synced = refused


def _quota(disk: Path) -> None:
    checkpoint.write_synced = atomic_files.write_synced = WRITE


WRITE = atomic_files.write_synced

TROUBLES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "full": (_fill, _empty),
    "without inodes": (_use_up_inodes, _empty),
    "read-only": (_mount("ro"), _mount("rw")),
    "over its quota": (_no_quota, _quota),
    "limited to files of 1 kB": (_limit(1024), _limit(resource.RLIM_INFINITY)),
    "removed": (shutil.rmtree, lambda disk: None),
}
"""What happens to the disk, and what ends it."""

REAL = ("full", "without inodes", "read-only")
"""Those that need a disk of their own."""


def disks(rounds: int, chance: random.Random) -> list[Case]:
    """Every trouble once for each round: one that passes, and one that stays until the end."""
    passes = Case("the disk is {} for some saves", "trains on with a warning, ends whole, nothing missing")
    stays = Case(
        "the disk is {} until the end", "a clear error; the last checkpoint whole; resumed to the end"
    )
    cases = []
    for how in (name for name in TROUBLES if name != "removed"):
        if how in REAL and not can_mount():
            continue
        own = [Case(case.name.format(how), case.promise) for case in (passes, stays)]
        for _ in range(rounds):
            for case, ends in zip(own, (PASSES, NEVER), strict=True):
                with tempfile.TemporaryDirectory(prefix="faults-") as home:
                    case.judge(_tried(Path(home), how, ends))
        cases += own
    removed = Case("the run's folder is removed in the middle", "trains on, ends with a whole checkpoint")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="faults-") as home:
            removed.judge(_removed(Path(home)))
    return [case for case in (*cases, removed) if case.tries]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Have a small disk of its own at a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", SIZE, "faults", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@cache
def can_mount() -> bool:
    """Whether this process may mount a disk; says so if not."""
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        try:
            with small_disk(Path(place)):
                return True
        except (OSError, subprocess.SubprocessError) as error:
            print(f"no small disk can be mounted here, so real ones are left out: {error}", file=sys.stderr)
            return False


def _asked(place: Path, *more: str) -> list[str]:
    given = [each for each in arguments(place, TIMESTEPS) if each != "--no_tensorboard"]
    return [*given, *more]


def _tried(home: Path, how: str, ends: int) -> str | None:
    if how not in REAL:
        return _trained(home, home, how, ends)
    # Files that are open for writing keep a disk from becoming read-only, and checkpoints never stay open.
    place = run_folder(home) / "checkpoints" if how == "read-only" else home
    place.mkdir(parents=True, exist_ok=True)
    with small_disk(place):
        return _trained(home, place, how, ends)


def _trained(place: Path, disk: Path, how: str, ends: int) -> str | None:
    def prepare() -> None:
        os.environ[PLACE] = str(disk)

    trouble = f"--with=benchmarks.faults_disk:Trouble:how={how},ends={ends}"
    ended = in_child(_asked(place, trouble), prepare)
    if ended.complaint:
        return ended.complaint
    told = " ".join(ended.text.split())
    if "can't be written" not in told:
        return f"not said: {ended.text[-200:]}"
    if ends != NEVER:
        return complete(place, TIMESTEPS) if ended.status == 0 else f"status {ended.status}: {told[-200:]}"
    if ended.status != 1:
        return f"status {ended.status}, though the last save failed"
    last = newest(place)
    if last is None or last.notes or last.state["iteration"] != BEGINS - 1:
        return "the last checkpoint before the trouble isn't the newest"
    if how in REAL:
        TROUBLES[how][1](disk)
    again = in_child(_asked(place))
    return (
        complete(place, TIMESTEPS)
        if again.status == 0
        else f"resumed with {again.status}: {again.text[-200:]}"
    )


def _removed(place: Path) -> str | None:
    def prepare() -> None:
        os.environ[PLACE] = str(run_folder(place))

    ended = in_child(_asked(place, "--with=benchmarks.faults_disk:Trouble:how=removed"), prepare)
    last = newest(place)
    if ended.status or ended.complaint:
        return f"status {ended.status}: {ended.text[-300:]}"
    return None if last is not None and last.timesteps >= TIMESTEPS else "no checkpoint at the end"
