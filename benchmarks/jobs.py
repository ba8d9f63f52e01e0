"""What the benchmarks run in processes of their own: jobs in the project's pool, and measurements.

Trainings are by the command a user types; measuring scripts answer what they are asked in JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, MeasurementError, now, source_state
from ppo_and_friends.distributed.cores import affinity, usable_cores
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.studies import jobs
from ppo_and_friends.studies.jobs import last_line

HERE = ROOT / "benchmarks"
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


class Pool(jobs.Pool):
    """Runs jobs, ``slots`` at once; ``say`` is told what happens."""

    def __init__(self, slots: int, say: Callable[[str], None] = print) -> None:
        super().__init__(slots)
        self._say = say
        self._began: dict[str, float] = {}
        self._spoken = time.monotonic()

    def prepare(self, job: jobs.Job, slot: int) -> None:
        """Choose its core, and empty its log, so that its last line is of this attempt."""
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text("")
        except OSError as error:
            raise UsageError(f"{job.log} can't be written: {error.strerror}.") from error
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


def run_alone(name: str, command: list[str], log: Path, **how: Any) -> None:
    """Run a command without a word, on all cores and threads, unless ``how`` says otherwise."""
    job = Job(name, [command], log, **({"pinned": False, "variables": variables(None)} | how))
    run_all([job], 1, say=lambda line: None)


def mpirun(ranks: int) -> list[str]:
    """What starts so many ranks: the mpirun beside this Python, or the system's; nothing for one rank."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if ranks > 1 and found is None:
        raise UsageError("mpirun is missing: install the extra [mpi].")
    return [str(found), "-n", str(ranks)] if ranks > 1 else []


def train(
    name: str,
    enough: Callable[[list[dict[str, str]]], bool],
    *,
    ranks: int = 1,
    seed: int = 1,
    changes: Iterable[str] = (),
    limit: float = 900.0,
    one_core: bool = False,
) -> list[dict[str, str]]:
    """Train a launcher for ``limit`` seconds at most; returns the rows of ``progress.csv``.

    ``enough`` gets these rows every second, and says whether the training may be ended; ``changes`` are
    further words of the command line.
    """
    from ppo_and_friends.reporting.progress_csv import read_rows  # late: it loads torch

    with tempfile.TemporaryDirectory() as place:
        progress = RunFolder(Path(place) / resolve(name).name).progress
        command = [*mpirun(ranks), sys.executable, str(ROOT / "main.py"), "-e", name, "-q"]
        command += ["--random_seed", str(seed), "--state_path", place, *changes]
        how = {"pinned": one_core, "limit": limit, "enough": lambda: enough(read_rows(progress)[1])}
        run_alone(f"{name} seed {seed} on {ranks} ranks", command, Path(place) / "log", **how)
        return read_rows(progress)[1]


def answer(name: str, command: list[str], spec: dict[str, Any], limit: float, **how: Any) -> Any:
    """What a command answers to ``spec``: it gets the names of two JSON files, to read and to write.

    Raises:
        MeasurementError: It failed; with its last line of output.
    """
    with tempfile.TemporaryDirectory() as place:
        asked, answered, log = (Path(place) / each for each in ("spec.json", "result.json", "log"))
        asked.write_text(json.dumps(spec))
        run_alone(name, [*command, str(asked), str(answered)], log, limit=limit, **how)
        if not answered.exists():
            raise MeasurementError(f"{name} failed within {limit:.0f} s: {last_line(log)}")
        return json.loads(answered.read_bytes())


def on_ranks(script: str, spec: dict[str, Any], ranks: int = 1, limit: float = 900.0, **how: Any) -> Any:
    """Run one of this folder's measuring scripts on some MPI ranks; returns its answer to ``spec``."""
    command = [*mpirun(ranks), sys.executable, str(HERE / script)]
    return answer(f"{script} on {ranks} ranks", command, spec, limit, **how)


def in_turns(
    plan: Iterable[tuple[int, str, str]],
    rows: dict[str, dict[str, Any]],
    measure: Callable[[str, int, str], dict[str, Any]],
    measured: Callable[[str, str], None],
) -> bool:
    """Measure what isn't yet, in the order of a plan, so that a busy machine slows all sides.

    Args:
        plan: Seeds, launchers and sides.
        rows: The runs by launcher and side, to which the new ones are added.
        measure: Makes a run of a launcher, from a seed, on a side; raises MeasurementError if that fails.
        measured: Called with launcher and side after each run that was made.

    Returns:
        Whether a run failed.
    """
    failed = False
    for seed, name, side in plan:
        runs = rows.setdefault(name, {}).setdefault(side, [])
        if any(run["seed"] == seed for run in runs):
            continue
        try:
            run = measure(name, seed, side)
        except MeasurementError as error:
            failed = True
            print(error, file=sys.stderr)
            continue
        runs.append({"seed": seed} | run | {"measured_at": now(), "commit": source_state()["commit"]})
        measured(name, side)
    return failed
