"""The benchmarks' jobs: the project's job pool, a core for each job, and a line for all that happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import MeasurementError
from ppo_and_friends.distributed.cores import affinity, usable_cores
from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies import jobs
from ppo_and_friends.studies.jobs import last_line

__all__ = ["Job", "Pool", "begin_log", "last_line", "run_all", "variables"]

LAUNCHERS = ("OMPI_", "PMI", "PMIX_", "MV2_", "SLURM_", "PALS_", "FLUX_", "JSM_", "HYDI_", "MPI_LOCAL")
STATUS_SECONDS = 60.0


def variables(threads: int | None = 1) -> dict[str, str]:
    """This process's environment variables without those of an MPI launcher; None: threads as they are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept if threads is None else kept | dict.fromkeys(names, str(threads))


@dataclass
class Job(jobs.Job):
    """A job that, unless it says otherwise, runs on a single core, with a single thread."""

    variables: Mapping[str, str] = field(default_factory=variables)
    pinned: bool = True
    """Whether to run on a single core."""
    status: Callable[[], str] | None = None
    """Progress, in a few words."""


def begin_log(log: Path) -> None:
    """Empty it, so that its last line is of this attempt."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
    except OSError as error:
        raise UsageError(f"{log} can't be written: {error.strerror}. Give another --work folder.") from error


class Pool(jobs.Pool):
    """Runs jobs, ``slots`` at once; ``say`` is told what happens, ``on_end`` gets each job that has ended."""

    def __init__(
        self, slots: int, say: Callable[[str], None] = print, on_end: Callable[[Job], None] | None = None
    ) -> None:
        super().__init__(slots)
        self._say, self._on_end = say, on_end
        self._began: dict[str, float] = {}
        self._spoken = time.monotonic()

    def prepare(self, job: jobs.Job, slot: int) -> None:
        """Choose its core."""
        cores = sorted(affinity())
        job.cores = [cores[slot % len(cores)]] if getattr(job, "pinned", False) else cores
        self._began[job.name] = time.monotonic()
        self._say(f"{job.name}: begins")

    def finished(self, job: jobs.Job) -> None:
        """Say how it ended."""
        if job.returncode == 0:
            self._say(f"{job.name}: done in {time.monotonic() - self._began[job.name]:.0f} s")
        elif self.stopped is not None:
            self._say(f"{job.name}: stopped; the same command continues from there")
        elif job.returncode is not None:
            self._say(f"{job.name}: FAILED ({job.returncode}): {last_line(job.log)}   [{job.log}]")
        if self._on_end is not None and isinstance(job, Job):
            self._on_end(job)

    def tick(self, changed: bool) -> None:
        """Say how far all are, once a minute."""
        if time.monotonic() - self._spoken < STATUS_SECONDS:
            return
        self._spoken = time.monotonic()
        asked = [(one.job.name, getattr(one.job, "status", None)) for one in self._running]
        parts = [f"{name} {status() if status else ''}".strip() for name, status in asked]
        self._say(" | ".join([*parts, *([f"{len(self.waiting)} waiting"] if self.waiting else [])]))


def run_all(given: Sequence[Job], at_once: int | None = None, say: Callable[[str], None] = print) -> None:
    """Run jobs, or raise MeasurementError or KeyboardInterrupt; None: as many at once as there are cores."""
    if Pool(at_once or usable_cores(), say).run(given) is not None:
        raise KeyboardInterrupt
    failed = [f"{job.name} failed: {last_line(job.log)}" for job in given if job.returncode not in (0, None)]
    if failed:
        raise MeasurementError("\n".join(failed))
