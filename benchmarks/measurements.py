"""Measurements in processes of their own: our training by the command a user types, and our scripts."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job, last_line, run_all, variables
from benchmarks.report import ROOT, MeasurementError, now, source_state
from benchmarks.runs import Changes
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.progress_csv import Row, read_rows
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.settings.registry import resolve

HERE = Path(__file__).resolve().parent


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
    enough: Callable[[list[Row]], bool],
    *,
    ranks: int = 1,
    seed: int = 1,
    changes: Changes | None = None,
    limit: float = 900.0,
    one_core: bool = False,
) -> list[Row]:
    """Train a launcher for ``limit`` seconds at most; returns the rows of ``progress.csv``.

    ``enough`` gets these rows every second, and says whether the training may be ended.
    """
    with tempfile.TemporaryDirectory() as place:
        progress = RunFolder(Path(place) / resolve(name).name).progress
        command = [*mpirun(ranks), sys.executable, str(ROOT / "main.py"), "-e", name, "-q"]
        command += ["--random_seed", str(seed), "--state_path", place, *(changes or Changes()).arguments()]
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
