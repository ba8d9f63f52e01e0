"""The one job pool: runs commands side by side, each on its own core, and ends them all together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from benchmarks.report import ROOT, MeasurementError
from ppo_and_friends.distributed.cores import affinity, usable_cores
from ppo_and_friends.errors import UsageError

LAUNCHERS = ("OMPI_", "PMI", "PMIX_", "MV2_", "SLURM_", "PALS_", "FLUX_", "JSM_", "HYDI_", "MPI_LOCAL")
POLL_SECONDS, STATUS_SECONDS = 0.2, 60.0
PATIENCE_SECONDS = 3.0  # between SIGTERM and SIGKILL for a job that is ended


def variables(threads: int | None = 1) -> dict[str, str]:
    """This process's environment variables without those of an MPI launcher; None: threads as they are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept if threads is None else kept | dict.fromkeys(names, str(threads))


@dataclass
class Job:
    """Commands to run one after the other; the first that fails ends the job."""

    name: str
    commands: Sequence[Sequence[str]]
    log: Path
    """The commands' output is appended to this file."""
    status: Callable[[], str] | None = None
    """Progress, in a few words."""
    before: Callable[[], None] | None = None
    """Called when the job's turn comes."""
    variables: Mapping[str, str] = field(default_factory=variables)
    """The commands' environment variables."""
    pinned: bool = True
    """Whether to run on a single core."""
    limit: float = float("inf")
    """Seconds after which the job is ended."""
    enough: Callable[[], bool] | None = None
    """Asked every second whether the job may be ended already."""
    returncode: int | None = None
    """Of the last command that ran; None: none did, or it was ended by ``limit`` or ``enough``."""


def begin_log(log: Path) -> None:
    """Empty it, so that its last line is of this attempt."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
    except OSError as error:
        raise UsageError(f"{log} can't be written: {error.strerror}. Give another --work folder.") from error


def last_line(log: Path) -> str:
    """The last line of a log that isn't blank; empty if there is none."""
    try:
        lines = log.read_bytes()[-20_000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Pool:
    """Runs jobs, ``slots`` at once, each on a core of its own as far as there are enough.

    ``say`` is told what happens, a line at a time.
    """

    def __init__(self, slots: int, say: Callable[[str], None] = print) -> None:
        self._slots, self._say = slots, say
        self._signals, self._lock = 0, threading.Lock()
        self._running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
        self._cores, self._free = sorted(affinity()), SimpleQueue[int]()
        for slot in range(slots):
            self._free.put(self._cores[slot % len(self._cores)])

    def run(self, jobs: Sequence[Job], on_end: Callable[[Job], None] | None = None) -> bool:
        """Run all jobs, in their order; their ``returncode`` is set.

        Ctrl-C (or SIGTERM) asks every command to stop as Ctrl-C would, and waits for them; a second
        one kills them. Returns False then. ``on_end`` is called in its thread when a job ended by itself.
        """
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        told, spoken, executor = 0, time.monotonic(), ThreadPoolExecutor(self._slots)
        left = {executor.submit(self._run_job, job, on_end) for job in jobs}
        try:
            while left:
                done, left = wait(left, POLL_SECONDS)
                for one in done:
                    one.result()  # raises what went wrong in the thread
                if self._signals > told:
                    told = self._signals
                    self._stop(kill=told > 1)
                if time.monotonic() - spoken > STATUS_SECONDS:
                    spoken = time.monotonic()
                    self._say_status(len(left))
        finally:
            self._signals += len(left)  # after an error nothing begins any more
            self._stop(kill=True)
            executor.shutdown(cancel_futures=True)
            for number, handler in previous.items():
                signal.signal(number, handler)
        return not self._signals

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _run_job(self, job: Job, on_end: Callable[[Job], None] | None) -> None:
        if self._signals:
            return
        core = self._free.get()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(
                0, {core} if job.pinned else self._cores
            )  # of this thread, and what it starts
        if job.before is not None:
            job.before()
        self._say(f"{job.name}: begins")
        began = time.monotonic()
        for command in job.commands:
            job.returncode = self._run_command(job, command, began + job.limit)
            if job.returncode != 0:
                break
        self._free.put(core)
        if job.returncode == 0:
            self._say(f"{job.name}: done in {time.monotonic() - began:.0f} s")
        elif self._signals:
            self._say(f"{job.name}: stopped; the same command continues from there")
        elif job.returncode is not None:
            self._say(f"{job.name}: FAILED ({job.returncode}): {last_line(job.log)}   [{job.log}]")
        if on_end is not None and job.returncode is not None:
            on_end(job)

    def _run_command(self, job: Job, command: Sequence[str], until: float) -> int | None:
        """Its exit status; 130 if it never began; None if it was ended."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, job.log.open("ab") as log:
            if self._signals:
                return 130
            # A session of its own: the terminal's Ctrl-C comes through this process alone.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(job.variables),
                cwd=ROOT,
                start_new_session=True,
            )
            self._running[process.pid] = job, process
        try:
            while time.monotonic() < until and not (job.enough is not None and job.enough()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(min(1.0, max(0.0, until - time.monotonic())))
            _end(process)
            return None
        finally:
            del self._running[process.pid]

    def _stop(self, *, kill: bool) -> None:
        with self._lock:
            running = [process for _, process in self._running.values()]
        if running:
            self._say("killing what still runs" if kill else "stopping")
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if kill else process.send_signal(signal.SIGINT)

    def _say_status(self, unfinished: int) -> None:
        running = [job for job, _ in list(self._running.values())]
        parts = [f"{job.name} {job.status() if job.status else ''}".strip() for job in running]
        waiting = unfinished - len(running)
        self._say(" | ".join(parts) + (f" | {waiting} waiting" if waiting > 0 else ""))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: with SIGTERM, then with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        time.sleep(POLL_SECONDS)  # for what it started


def run_all(jobs: Sequence[Job], at_once: int | None = None, say: Callable[[str], None] = print) -> None:
    """Run jobs, or raise MeasurementError or KeyboardInterrupt; None: as many at once as there are cores."""
    if not Pool(at_once or usable_cores(), say).run(jobs):
        raise KeyboardInterrupt
    failed = [f"{job.name} failed: {last_line(job.log)}" for job in jobs if job.returncode not in (0, None)]
    if failed:
        raise MeasurementError("\n".join(failed))
