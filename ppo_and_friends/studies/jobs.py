"""A pool of jobs: commands side by side, each on its own cores, which hear of signals and end together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppo_and_friends.distributed.cores import affinity
from ppo_and_friends.distributed.interrupts import SIGNALS

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL for a job that is ended."""

NEVER_BEGAN = 130


@dataclass
class Job:
    """Commands to run one after the other; the first that fails ends the job."""

    name: str
    """For messages."""

    commands: Sequence[Sequence[str]]
    log: Path
    """The commands' output is appended to this file."""

    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """The commands' environment variables."""

    cores: Sequence[int] | None = None
    """Where they may run; None: everywhere."""

    before: Callable[[], None] | None = None
    """Called when the job's turn comes."""

    limit: float = float("inf")
    """Seconds after which the job is ended."""

    enough: Callable[[], bool] | None = None
    """Asked every second whether the job may be ended already."""

    returncode: int | None = None
    """Of the last command that ran; None: none did, or it was ended by ``limit`` or ``enough``."""


@dataclass
class Running:
    """A job whose turn has come."""

    job: Job
    slot: int
    """Which of the pool's places it has."""

    process: subprocess.Popen[bytes]
    began: float
    done: int = 0
    """Commands that have ended."""

    asked: float = 0.0
    """When ``enough`` was asked."""

    ended: float | None = None
    """When it was told to end, by ``limit`` or ``enough``."""


class Pool:
    """Runs jobs, ``slots`` at once. Subclasses say what becomes of them."""

    def __init__(self, slots: int) -> None:
        """Have so many places for jobs."""
        self.slots = slots
        self.waiting: list[Job] = []
        self.stopped: signal.Signals | None = None
        """The signal that stopped the pool."""

        self._running: list[Running] = []

    def prepare(self, job: Job, slot: int) -> None:
        """Called when a job's turn comes, with its place: 0 to ``slots`` - 1."""

    def finished(self, job: Job) -> None:
        """Called when a job has ended."""

    def tick(self, changed: bool) -> None:
        """Called a few times a second.

        Args:
            changed: Whether a job began or ended.
        """

    def run(self, jobs: Sequence[Job]) -> signal.Signals | None:
        """Run all jobs, in their order; their ``returncode`` is set.

        A signal is passed on, so that what runs can finish and save; it is waited for. A second Ctrl-C kills.

        Returns:
            The signal that stopped it; None: it came to its end.
        """
        self.waiting = list(jobs)
        handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._stop)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
        }
        try:
            while self.waiting or self._running:
                changed = self._collect()
                changed |= self._fill()
                self.tick(changed)
                time.sleep(POLL_SECONDS)
        finally:
            self._tell(signal.SIGTERM)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.stopped

    def _fill(self) -> bool:
        """Start jobs in free places."""
        if self.stopped is not None:
            self.waiting.clear()
        free = sorted(set(range(self.slots)) - {one.slot for one in self._running})
        begun = self.waiting[: len(free)]
        for job, slot in zip(begun, free, strict=False):
            self.waiting.remove(job)
            self.prepare(job, slot)
            if job.before is not None:
                job.before()
            self._running.append(Running(job, slot, _start(job, 0), time.monotonic()))
        return bool(begun)

    def _collect(self) -> bool:
        """Go on with jobs whose command has ended, and end those that have done enough."""
        changed = False
        for one in list(self._running):
            status = one.process.poll()
            if status is None:
                _end_in_time(one)
                continue
            one.done += 1
            if one.ended is not None:
                time.sleep(POLL_SECONDS)  # for what it started
                _signal(one.process, signal.SIGKILL)
                one.job.returncode = None
            else:
                one.job.returncode = status
                if status == 0 and one.done < len(one.job.commands):
                    if self.stopped is None:
                        one.process = _start(one.job, one.done)
                        continue
                    one.job.returncode = NEVER_BEGAN
            self._running.remove(one)
            self.finished(one.job)
            changed = True
        return changed

    def _stop(self, number: int, frame: object) -> None:
        again = self.stopped is not None
        self.stopped = signal.Signals(number)
        # Told once, a run finishes its iteration and saves; told twice, it ends at once.
        self._tell(signal.SIGKILL if again and number == signal.SIGINT else self.stopped)

    def _tell(self, number: signal.Signals) -> None:
        for one in self._running:
            _signal(one.process, number)


def share_of(slot: int, slots: int) -> list[int]:
    """The cores of a pool's place, if all of them are divided."""
    cores = sorted(affinity())
    return cores[slot::slots] or [cores[slot % len(cores)]]


def last_line(log: Path) -> str:
    """The last line of a log that isn't blank; empty if there is none."""
    try:
        lines = log.read_bytes()[-20_000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _start(job: Job, number: int) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log, _on(job.cores):
        return subprocess.Popen(
            job.commands[number],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(job.variables),
            start_new_session=True,  # Ctrl-C is passed on once, by this program
        )


@contextlib.contextmanager
def _on(cores: Sequence[int] | None) -> Iterator[None]:
    """What is started is bound to these cores from its first instruction, as this thread is meanwhile."""
    own = affinity()
    bound = cores is not None and hasattr(os, "sched_setaffinity")
    if bound and cores is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if bound:
            os.sched_setaffinity(0, own)


def _end_in_time(one: Running) -> None:
    """Tell a job to end that is over its limit or has done enough; kill one that doesn't."""
    now, job = time.monotonic(), one.job
    if one.ended is not None:
        if now > one.ended + PATIENCE_SECONDS:
            _signal(one.process, signal.SIGKILL)
        return
    over = now > one.began + job.limit
    if not over and job.enough is not None and now > one.asked + 1.0:
        one.asked = now
        over = job.enough()
    if over:
        one.ended = now
        _signal(one.process, signal.SIGTERM)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To a process and all that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)
