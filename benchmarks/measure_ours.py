"""Measures our own training for a while, and the bare vector engine under the policy it has then.

Started by ``speed.py`` on one or several MPI ranks: ``measure_ours.py SPECIFICATION.json RESULT.json``. The
specification: environment, seconds, seed, set, with, without (as on the command line), engine (whether to
measure the bare engine).
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bare_engine import record
from benchmarks.reporting_cost import Timed, terminal
from ppo_and_friends.cli.main import changed
from ppo_and_friends.cli.options import Options
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.cores import threads_per_rank
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.launch import guard, make_communicator
from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.reporting.composite import CompositeReporter, make_reporter
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.runs.build import TIMED, build_trainer
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.session import Session
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.factory import make_vector_env

WARM_UP = 3
"""Iterations that aren't counted: threads start, buffers are touched for the first time."""

MIN_COUNTED = 3
ENGINE_STEPS = 40_000
"""Steps over all environments of a rank for which the bare engine is measured, at most."""


class Deadline(Interrupts):
    """Ends a session after some seconds and enough iterations, by rank 0's clock."""

    def __init__(self, communicator: Communicator, seconds: float) -> None:
        super().__init__(communicator)
        self._communicator, self._seconds = communicator, seconds
        self._began, self._asked = time.perf_counter(), 0

    def agreed(self) -> bool:
        self._asked += 1
        late = time.perf_counter() - self._began > self._seconds
        return bool(self._communicator.broadcast(late and self._asked >= WARM_UP + MIN_COUNTED))


class Laps(SilentReporter):
    """Notes when each iteration ended and where its time went."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, dict[str, float]]] = []

    def iteration(self, report: IterationReport) -> None:
        metrics = {name: report.metrics.get(f"time_{name}", 0.0) for name in TIMED}
        self.rows.append((time.perf_counter(), report.timesteps, metrics))

    def rate(self) -> float:
        """Timesteps a second, reports and checks included."""
        (start, before, _), (end, after, _) = self.rows[WARM_UP - 1], self.rows[-1]
        return (after - before) / (end - start)

    def split(self) -> dict[str, float]:
        """Shares of the time: environment, inference, update, communication, rest."""
        counted = self.rows[WARM_UP:]
        elapsed = self.rows[-1][0] - self.rows[WARM_UP - 1][0]
        shares = {name: sum(row[2][name] for row in counted) / elapsed for name in TIMED}
        return shares | {"rest": 1.0 - sum(shares.values())}


def peak_megabytes() -> float:
    """Most memory this process has held."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if sys.platform != "darwin" else 1024**2)


def measure(spec: dict[str, Any], communicator: Communicator) -> dict[str, Any] | None:
    """Train for a while; then drive the bare engine with the same policy's actions. A collective.

    Returns:
        The measurements, on rank 0.
    """
    options = Options(
        environment=spec["environment"],
        random_seed=spec.get("seed", 1),
        set=tuple(spec.get("set", ())),
        with_=tuple(spec.get("with", ())),
        without=tuple(spec.get("without", ())),
    )
    experiment = changed(resolve(spec["environment"]), options)
    threads = threads_per_rank(communicator)
    layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
    envs = make_vector_env(experiment.environment, layout, threads)
    trainer = build_trainer(experiment, communicator, envs)
    torch.set_num_threads(threads if trainer.network.convolutional else 1)
    laps = Laps()
    with tempfile.TemporaryDirectory() as folder, terminal() as stream:
        reports = Timed(
            make_reporter(Path(folder), True, stream=stream) if communicator.is_main else SilentReporter()
        )
        reporter = CompositeReporter([reports, laps])
        reporter.start(experiment, communicator.size)
        reporter.model(trainer.agent)
        deadline = Deadline(communicator, spec["seconds"])
        began = time.process_time()
        Session(trainer, communicator, RunFolder(folder), reporter, deadline).run()
        reporting = reports.seconds() / (time.process_time() - began)
        reporter.finish("")
        reporter.close()
    peaks = communicator.gather(peak_megabytes())
    result = {
        "steps_per_second": laps.rate(),
        "iterations": len(laps.rows) - WARM_UP,
        "timesteps": trainer.timesteps,
        "split": laps.split(),
        "reporting": reporting,
        "report_ends_seconds": reports.ends,
        "peak_megabytes": max(peaks),
        "ranks": communicator.size,
        "threads": threads,
        "backend": getattr(envs, "backend", ""),
        "device": str(trainer.agent.device),
    }
    if spec.get("engine", True):
        result["engine_steps_per_second"] = engine_rate(trainer, experiment.environment, layout, threads)
    envs.close()
    return result if communicator.is_main else None


def engine_rate(trainer: Trainer, settings: Any, layout: Layout, threads: int) -> float:
    """The bare engine's rate with the trained policy's actions, all ranks at once. A collective.

    The policy acts in fresh environments, and its actions are written down. The same engine with the
    same seeds then repeats them with nothing in between, which gives the same episodes.

    Returns:
        Environment steps a second over all ranks.
    """
    communicator = trainer.communicator
    recording = record(trainer, settings, layout, threads, max(20, min(2000, ENGINE_STEPS // layout.local)))
    bare = recording.engine()
    communicator.barrier()
    start = time.perf_counter()
    recording.replay(bare)
    seconds = time.perf_counter() - start
    bare.close()
    slowest = max(communicator.gather(seconds))
    return float(recording.steps * layout.total / slowest)


def main() -> int:
    """Measure, and write what was measured."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    communicator = make_communicator()
    with guard(communicator):
        result = measure(spec, communicator)
        if result is not None:
            replace_file(Path(sys.argv[2]), json.dumps(result).encode())
        communicator.barrier()
    return 0


if __name__ == "__main__":
    sys.exit(main())
