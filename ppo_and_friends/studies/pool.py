"""Trains a study's runs in a pool of processes, each by the ordinary command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ppo_and_friends
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.distributed.interrupts import SIGNALS
from ppo_and_friends.distributed.launch import RANK_VARIABLES, SIZE_VARIABLES
from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.board import DONE, FAILED, RUNNING, STOPPED, Board
from ppo_and_friends.studies.jobs import Job, Pool, last_line, share_of
from ppo_and_friends.studies.plan import StudyRun, is_finished

LOG = "output.log"
"""What a run printed, in its folder."""

REFRESH_SECONDS = 1.0
INTERRUPTED = tuple(128 + int(number) for number in SIGNALS)
"""Exit statuses of a run that was told to stop: it is saved and can go on."""


def command() -> list[str]:
    """What starts the command line in a process of its own."""
    main = Path(ppo_and_friends.__file__).resolve().parent.parent / "main.py"
    return [sys.executable, str(main)] if main.is_file() else [sys.executable, "-m", "ppo_and_friends.cli"]


class StudyPool(Pool):
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
        self.left: list[StudyRun] = []
        for run in runs:
            if is_finished(run):
                self.board.states[run.folder] = DONE
            else:
                self.left.append(run)
        super().__init__(max(1, min(jobs or usable_cores(), len(self.left))))
        self._shown = 0.0

    def train(self) -> int:
        """Train all runs that aren't finished.

        Returns:
            0; 1 if a run failed; 128 + a signal that stopped the study, which can go on later.
        """
        with self.board:
            stopped = self.run([_job(run) for run in self.left])
        if stopped is not None:
            return 128 + int(stopped)
        return int(FAILED in self.board.states.values())

    def prepare(self, job: Job, slot: int) -> None:
        """Each run takes its threads from the cores that it may use."""
        job.cores = share_of(slot, self.slots)
        job.variables = {**job.variables, "OMP_NUM_THREADS": str(len(job.cores))}
        job.log.unlink(missing_ok=True)
        self.board.states[job.log.parent] = RUNNING

    def finished(self, job: Job) -> None:
        """Note how a run has ended."""
        folder, status = job.log.parent, job.returncode
        if status == 0:
            self.board.states[folder] = DONE
        elif status in INTERRUPTED and self.stopped is not None:
            self.board.states[folder] = STOPPED
        else:
            self.board.states[folder] = FAILED
            self.board.reasons[folder] = reason(job.log, status or 0)

    def tick(self, changed: bool) -> None:
        """Show how far the runs are."""
        if changed or time.monotonic() - self._shown > REFRESH_SECONDS:
            self._shown = time.monotonic()
            self.board.refresh()


def _job(run: StudyRun) -> Job:
    # A run must not believe that it is a rank of a job this program belongs to.
    launchers = (*RANK_VARIABLES, *SIZE_VARIABLES)
    variables = {name: value for name, value in os.environ.items() if name not in launchers}
    return Job(run.label, [[*command(), *run.arguments]], run.folder / LOG, variables)


def reason(log: Path, status: int) -> str:
    """Why a run failed: the last line that it printed, and where to read the rest."""
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return f"{last_line(log)[:200] or 'it printed nothing'} ({how}; {log})"
