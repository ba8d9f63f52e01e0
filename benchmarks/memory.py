"""Peak memory of a rank, launcher by launcher, or growth over a long run: ``memory.py --help``.

For the peak each launcher runs the command a user would type, for a few iterations, on one rank: with more
ranks each has fewer environments and a smaller share of the rollout. With ``--growth`` a run of many short
iterations, with reports and checkpoints, is watched: it is flat if the slope of its memory over the second
half is within a bound, and an iteration at the end takes the CPU time that one in the middle does.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import last_line
from benchmarks.measurements import run_alone
from benchmarks.report import ROOT, command_line, markdown, now, save, source_state
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.reporting.composite import CompositeReporter
from ppo_and_friends.reporting.progress_csv import ProgressCSV
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.session import Session
from ppo_and_friends.settings.overrides import apply_settings
from ppo_and_friends.settings.registry import all_launchers, resolve
from ppo_and_friends.vector.factory import make_vector_env

LIMITS = {"images": 1500.0, "the others": 600.0}
"""Megabytes that a rank may take."""

BOUND, SLOWER = 2.0, 1.25
"""Kilobytes that an iteration may add, and times that one at the end may take of one in the middle."""

ROLLOUT = 256  # timesteps of the short iterations: growth goes by iterations
UNIT = 1024 if sys.platform != "darwin" else 1024**2  # of ru_maxrss, in a megabyte
WITH_PEAK = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
"""Runs a command and adds a line with its peak memory."""


@dataclass(frozen=True)
class Options:
    """Measure the peak memory of a rank, or look for growth."""

    environments: tuple[str, ...] = ()
    """Launchers; none: all of them."""
    iterations: int | None = None
    """Rollouts and updates of each (default: 3; with --growth 2000)."""
    growth: str | None = None
    """A launcher to look for growth, instead."""
    output: Path = Path("results/speed/memory.json")
    """Where the peaks go; a table goes beside it."""


def peak(name: str, iterations: int) -> dict[str, Any]:
    """Train for some iterations; returns the peak memory, in megabytes (2^20 bytes), and sizes."""
    experiment = resolve(name)
    steps = iterations * experiment.ppo.rollout_timesteps
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", WITH_PEAK, sys.executable, str(ROOT / "main.py"), "-e", name]
        command += ["--state_path", place, "-q", "--num_timesteps", str(steps)]
        log = Path(place) / "log"
        run_alone(name, command, log)
        most = int(last_line(log)) / UNIT
    atari = experiment.environment.atari
    images = atari is not None and atari.observation == "pixels"
    return {
        "megabytes": most,
        "num_envs": experiment.environment.num_envs,
        "rollout_timesteps": experiment.ppo.rollout_timesteps,
        "limit": LIMITS["images" if images else "the others"],
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    keys = ("num_envs", "rollout_timesteps", "megabytes", "limit")
    cells = [[name, *(f"{row[key]:,.0f}" for key in keys)] for name, row in rows.items()]
    return markdown(("launcher", "environments", "timesteps", "peak MB", "at most"), cells) + "\n"


class Watch(SilentReporter):
    """Notes memory (of Linux) and CPU time after each iteration."""

    def __init__(self) -> None:
        self.kilobytes: list[float] = []
        self.clock: list[float] = []

    def iteration(self, report: IterationReport) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.kilobytes.append(pages * resource.getpagesize() / 1024)
        self.clock.append(time.process_time())


def slope(values: NDArray[np.float64]) -> float:
    """By which the second half of ``values`` rises with each, however it jumps.

    The median slope over pairs half a half apart (Theil and Sen's, on far pairs only).
    """
    half = np.asarray(values[len(values) // 2 :], dtype=np.float64)
    distance = len(half) // 2
    return float(np.median((half[distance:] - half[:-distance]) / distance))


def slowdown(clock: NDArray[np.float64]) -> float:
    """The median CPU time of an iteration in the last quarter, over that in the second."""
    laps = np.diff(clock)
    quarter = len(laps) // 4
    return float(np.median(laps[3 * quarter :]) / np.median(laps[quarter : 2 * quarter]))


def growth(name: str, iterations: int) -> dict[str, float]:
    """Train, and return memory, slope (kilobytes an iteration) and slowdown."""
    timesteps = f"num_timesteps={iterations * ROLLOUT}"
    short = [timesteps, f"ppo.rollout_timesteps={ROLLOUT}", "checkpoint_seconds=2"]
    experiment = apply_settings(resolve(name), short)
    torch.set_num_threads(1)  # as a run of a small network has it
    envs = make_vector_env(experiment.environment, divide(experiment.environment.num_envs, 0, 1), 1)
    watch, communicator = Watch(), SoloCommunicator()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        reporter = CompositeReporter([ProgressCSV(folder.progress), watch])
        trainer = build_trainer(experiment, communicator, envs)
        reporter.start(RunStart(experiment, 1))
        Session(trainer, communicator, folder, reporter, Interrupts()).run()
    envs.close()
    return {
        "iterations": float(len(watch.clock)),
        "megabytes": watch.kilobytes[-1] / 1024,
        "kilobytes_an_iteration": slope(np.array(watch.kilobytes)),
        "slowdown": slowdown(np.array(watch.clock)),
    }


def run_benchmark(options: Options) -> int:
    """Measure; 1 if a launcher is above its limit, or grows."""
    if options.growth is not None:
        result = growth(options.growth, options.iterations or 2000)
        flat = result["kilobytes_an_iteration"] <= BOUND and result["slowdown"] <= SLOWER
        print(json.dumps(result, indent=1), "flat" if flat else "GROWS", sep="\n")
        return int(not flat)
    iterations, rows = options.iterations or 3, {}
    for name in options.environments or [launcher.name for launcher in all_launchers()]:
        rows[name] = peak(name, iterations)
        print(f"{name}: {rows[name]['megabytes']:,.0f} MB of {rows[name]['limit']:,.0f}", flush=True)
    about = {"measured_at": now(), "source": source_state(), "iterations": iterations}
    save(options.output, about | {"rows": rows}, table(rows))
    return int(any(row["megabytes"] > row["limit"] for row in rows.values()))


main = partial(command_line, Options, "memory.py", run_benchmark)

if __name__ == "__main__":
    sys.exit(main())
