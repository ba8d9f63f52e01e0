"""Runs commands side by side, each on a core of its own, and stops them all together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ppo_and_friends.distributed.cores import affinity
from ppo_and_friends.errors import UsageError

LAUNCHERS = ("OMPI_", "PMI", "PMIX_", "MV2_", "SLURM_", "PALS_", "FLUX_", "JSM_", "HYDI_", "MPI_LOCAL")
POLL_SECONDS = 0.2
STATUS_SECONDS = 60.0
LAST_BYTES = 20_000

Command = tuple[str, ...]


@dataclass
class Job:
    """Commands to run one after the other; the first that fails ends the job."""

    name: str
    commands: Sequence[Command]
    log: Path
    """Where what the commands say is written (appended)."""

    status: Callable[[], str] | None = None
    """How far it is, in a few words."""

    before: Callable[[], None] | None = None
    """Called when its turn comes."""

    returncode: int | None = None
    """Of the last command that ran; None: not ended."""

    seconds: float = 0.0


@dataclass
class _Running:
    job: Job
    slot: int
    process: subprocess.Popen[bytes]
    left: list[Command]
    began: float = field(default_factory=time.monotonic)


def quiet_variables() -> dict[str, str]:
    """This process's environment variables, without a launcher's, and with one thread a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(threads, "1")


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Have processes that are started inside run on one core; None: on any."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def begin_log(log: Path) -> None:
    """Empty it, so that its last line is of this attempt.

    Raises:
        UsageError: It can't be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
    except OSError as error:
        raise UsageError(f"{log} can't be written: {error.strerror}. Give another --work folder.") from error


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


class Pool:
    """Runs jobs, so many at once.

    Args:
        slots: Jobs at once. Slot i runs on the i-th core this process may use, so that jobs don't
            disturb each other; more slots than cores share them.
        say: Told what happens, a line at a time.
        variables: Environment variables of the commands.
    """

    def __init__(
        self,
        slots: int,
        say: Callable[[str], None] = print,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._slots, self._say, self._cwd = slots, say, cwd
        self._variables = dict(quiet_variables() if variables is None else variables)
        self._cores = sorted(affinity())
        self._signals = 0

    def run(self, jobs: Sequence[Job], on_end: Callable[[Job], None] | None = None) -> bool:
        """Run all jobs, in their order.

        Ctrl-C (or SIGTERM) asks every command to stop as Ctrl-C would, and waits for them; a second
        one kills them.

        Args:
            jobs: What to run; their ``returncode`` is set.
            on_end: Called when a job has ended.

        Returns:
            False if it was interrupted.
        """
        waiting, running = list(jobs), list[_Running]()
        previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        told, spoken = 0, time.monotonic()
        try:
            while running or (waiting and not self._signals):
                while waiting and len(running) < self._slots and not self._signals:
                    self._begin(waiting.pop(0), running)
                time.sleep(POLL_SECONDS)
                if self._signals > told:
                    told = self._signals
                    self._stop(running, kill=told > 1)
                for one in [one for one in running if one.process.poll() is not None]:
                    self._next(one, running, on_end)
                if time.monotonic() - spoken > STATUS_SECONDS:
                    spoken = time.monotonic()
                    self._say_status(running, len(waiting))
        finally:
            self._stop(running, kill=True)
            for number, handler in previous.items():
                signal.signal(number, handler)
        return not self._signals

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _begin(self, job: Job, running: list[_Running]) -> None:
        slot = min(set(range(self._slots)) - {one.slot for one in running})
        if job.before is not None:
            job.before()
        self._say(f"{job.name}: begins")
        commands = list(job.commands)
        running.append(_Running(job, slot, self._start(job, commands.pop(0), slot), commands))

    def _start(self, job: Job, command: Command, slot: int) -> subprocess.Popen[bytes]:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log, pinned(self._cores[slot % len(self._cores)]):
            # A session of its own: the terminal's Ctrl-C comes through this process alone.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._variables,
                cwd=self._cwd,
                start_new_session=True,
            )

    def _next(self, one: _Running, running: list[_Running], on_end: Callable[[Job], None] | None) -> None:
        code = one.process.returncode
        if code == 0 and one.left and not self._signals:
            one.process = self._start(one.job, one.left.pop(0), one.slot)
            return
        running.remove(one)
        one.job.returncode, one.job.seconds = code, time.monotonic() - one.began
        if code == 0 and one.left:
            one.job.returncode = 130  # interrupted between two commands
        if one.job.returncode == 0:
            self._say(f"{one.job.name}: done in {one.job.seconds:.0f} s")
        elif self._signals:
            self._say(f"{one.job.name}: stopped; the same command goes on from there")
        else:
            self._say(f"{one.job.name}: FAILED ({code}): {last_line(one.job.log)}   [{one.job.log}]")
        if on_end is not None:
            on_end(one.job)

    def _stop(self, running: Sequence[_Running], *, kill: bool) -> None:
        number = signal.SIGKILL if kill else signal.SIGINT
        if running:
            self._say("stopping" if not kill else "killing what still runs")
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, number) if kill else one.process.send_signal(number)

    def _say_status(self, running: Sequence[_Running], waiting: int) -> None:
        parts = [f"{one.job.name} {one.job.status() if one.job.status else ''}".strip() for one in running]
        self._say(" | ".join(parts) + (f" | {waiting} waiting" if waiting else ""))
