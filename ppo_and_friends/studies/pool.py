"""Trains a study's runs in a pool of processes, each by the ordinary command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ppo_and_friends
from ppo_and_friends.distributed.cores import affinity, usable_cores
from ppo_and_friends.distributed.interrupts import SIGNALS
from ppo_and_friends.distributed.launch import RANK_VARIABLES, SIZE_VARIABLES
from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.board import DONE, FAILED, RUNNING, STOPPED, Board
from ppo_and_friends.studies.plan import StudyRun, is_finished

LOG = "output.log"
"""What a run printed, in its folder."""

POLL_SECONDS = 0.2
REFRESH_SECONDS = 1.0
INTERRUPTED = tuple(128 + int(number) for number in SIGNALS)
"""Exit statuses of a run that was told to stop: it is saved and can go on."""


@dataclass
class Job:
    """A run in its process."""

    run: StudyRun
    process: subprocess.Popen[bytes]
    slot: int
    """Which of the pool's places it has."""


def command() -> list[str]:
    """What starts the command line in a process of its own."""
    main = Path(ppo_and_friends.__file__).resolve().parent.parent / "main.py"
    return [sys.executable, str(main)] if main.is_file() else [sys.executable, "-m", "ppo_and_friends.cli"]


class Pool:
    """Runs a study on one machine; finished runs are left alone, saved ones go on."""

    def __init__(self, runs: Sequence[StudyRun], jobs: int | None = None) -> None:
        """Check what is there.

        Args:
            runs: The study.
            jobs: How many at once; None: as many as there are cores.

        Raises:
            UsageError: A folder holds a run of other settings, or ``jobs`` isn't positive.
        """
        if jobs is not None and jobs < 1:
            raise UsageError(f"--jobs: at least 1, not {jobs}.")
        self.board = Board(runs)
        self.waiting: list[StudyRun] = []
        for run in runs:
            if is_finished(run):
                self.board.states[run.folder] = DONE
            else:
                self.waiting.append(run)
        self.jobs = max(1, min(jobs or usable_cores(), len(self.waiting)))
        self._running: list[Job] = []
        self._stopped: signal.Signals | None = None

    def train(self) -> int:
        """Train all runs that aren't finished.

        Returns:
            0; 1 if a run failed; 128 + a signal that stopped the study, which can go on later.
        """
        handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._stop)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
        }
        shown = 0.0
        try:
            with self.board:
                while self.waiting or self._running:
                    changed = self._collect()
                    changed |= self._fill()
                    if changed or time.monotonic() - shown > REFRESH_SECONDS:
                        shown = time.monotonic()
                        self.board.refresh()
                    time.sleep(POLL_SECONDS)
        finally:
            self._tell(signal.SIGTERM)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._stopped is not None:
            return 128 + int(self._stopped)
        return int(FAILED in self.board.states.values())

    def _fill(self) -> bool:
        """Start runs in free places."""
        free = sorted(set(range(self.jobs)) - {job.slot for job in self._running})
        changed = False
        while self.waiting and free and self._stopped is None:
            run, slot = self.waiting.pop(0), free.pop(0)
            self._running.append(Job(run, self._start(run, slot), slot))
            self.board.states[run.folder] = RUNNING
            changed = True
        if self._stopped is not None:
            self.waiting.clear()
        return changed

    def _start(self, run: StudyRun, slot: int) -> subprocess.Popen[bytes]:
        run.folder.mkdir(parents=True, exist_ok=True)
        # A run must not believe that it is a rank of a job this program belongs to.
        launchers = (*RANK_VARIABLES, *SIZE_VARIABLES)
        environment = {name: value for name, value in os.environ.items() if name not in launchers}
        cores = sorted(affinity())
        share = cores[slot :: self.jobs] or [cores[slot % len(cores)]]
        environment["OMP_NUM_THREADS"] = str(len(share))
        with open(run.folder / LOG, "wb") as log:
            process = subprocess.Popen(
                [*command(), *run.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is passed on once, by this program
            )
        # Each run takes its threads from the cores that it may use.
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(process.pid, share)
        return process

    def _collect(self) -> bool:
        """Note which runs have ended, and how."""
        ended = [job for job in self._running if job.process.poll() is not None]
        for job in ended:
            self._running.remove(job)
            status = job.process.returncode
            if status == 0:
                self.board.states[job.run.folder] = DONE
            elif status in INTERRUPTED and self._stopped is not None:
                self.board.states[job.run.folder] = STOPPED
            else:
                self.board.states[job.run.folder] = FAILED
                self.board.reasons[job.run.folder] = reason(job.run.folder / LOG, status)
        return bool(ended)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again = self._stopped is not None
        self._stopped = signal.Signals(number)
        # Told once, a run finishes its iteration and saves; told twice, it ends at once.
        self._tell(signal.SIGKILL if again and number == signal.SIGINT else self._stopped)

    def _tell(self, number: signal.Signals) -> None:
        for job in self._running:
            with contextlib.suppress(OSError):
                os.killpg(job.process.pid, number)


def reason(log: Path, status: int) -> str:
    """Why a run failed: the last line that it printed, and where to read the rest."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    how = f"signal {-status}" if status < 0 else f"status {status}"
    last = lines[-1][:200] if lines else "it printed nothing"
    return f"{last} ({how}; {log})"
