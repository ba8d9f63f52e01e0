"""Whether a long run grows: memory and time of an iteration over thousands of them.

``python benchmarks/growth.py --help``. A run is flat if the slope of its memory, over the second half of its
iterations, is within the bound, and an iteration at the end costs the CPU time that one in the middle does.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import PPOError
from ppo_and_friends.reporting.composite import CompositeReporter
from ppo_and_friends.reporting.progress_csv import ProgressCSV
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.session import Session
from ppo_and_friends.settings.overrides import apply_settings
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.factory import make_vector_env

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """Run many short iterations, with reports and checkpoints, and look for growth."""

    environment: str = "CartPole"
    """A launcher."""

    iterations: int = 2000
    """How many."""

    rollout_timesteps: int = 256
    """Short ones, since growth goes by iterations."""

    bound: float = 2.0
    """Kilobytes that an iteration may add."""

    slower: float = 1.25
    """Times that an iteration at the end may take of one in the middle."""


def resident_kilobytes() -> float:
    """Memory that this process holds now; where the system doesn't tell, the most it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class Watch(SilentReporter):
    """Notes memory and CPU time after each iteration; by the clock other programs would count."""

    def __init__(self) -> None:
        self.kilobytes: list[float] = []
        self.clock: list[float] = []

    def iteration(self, report: IterationReport) -> None:
        self.kilobytes.append(resident_kilobytes())
        self.clock.append(time.process_time())


def slope(values: Array) -> float:
    """By which the second half of ``values`` rises with each, in a way that single jumps don't sway.

    Returns:
        The median slope over pairs half a half apart (Theil and Sen's, on far pairs only).
    """
    half = np.asarray(values[len(values) // 2 :], dtype=np.float64)
    distance = len(half) // 2
    return float(np.median((half[distance:] - half[:-distance]) / distance))


def slowdown(clock: Array) -> float:
    """The median CPU time of an iteration in the last quarter, over that in the second."""
    laps = np.diff(clock)
    quarter = len(laps) // 4
    return float(np.median(laps[3 * quarter :]) / np.median(laps[quarter : 2 * quarter]))


def measure(options: Options) -> dict[str, float]:
    """Train, and return memory, slope (kilobytes an iteration) and slowdown.

    Raises:
        PPOError: The environment is unknown or fails.
    """
    experiment = apply_settings(
        resolve(options.environment),
        [
            f"num_timesteps={1000 * options.iterations * options.rollout_timesteps}",
            f"ppo.rollout_timesteps={options.rollout_timesteps}",
            "checkpoint_seconds=2",
        ],
    )
    torch.set_num_threads(1)  # as a run of a small network has it
    communicator = SoloCommunicator()
    layout = divide(experiment.environment.num_envs, 0, 1)
    envs = make_vector_env(experiment.environment, layout, 1)
    watch = Watch()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        reporter = CompositeReporter([ProgressCSV(folder.progress), watch])
        trainer = build_trainer(experiment, communicator, envs)
        reporter.start(experiment, 1)
        Session(trainer, communicator, folder, reporter, _Until(watch, options.iterations)).run()
    envs.close()
    return {
        "iterations": float(len(watch.clock)),
        "megabytes": watch.kilobytes[-1] / 1024,
        "kilobytes_an_iteration": slope(np.array(watch.kilobytes)),
        "slowdown": slowdown(np.array(watch.clock)),
    }


class _Until(Interrupts):
    """Ends a session after so many iterations."""

    def __init__(self, watch: Watch, iterations: int) -> None:
        super().__init__()
        self._watch, self._iterations = watch, iterations

    def agreed(self) -> bool:
        return len(self._watch.clock) >= self._iterations


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 if it is flat, 1 if it grows, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/growth.py")
    try:
        result = measure(options)
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(result, indent=1))
    flat = result["kilobytes_an_iteration"] <= options.bound and result["slowdown"] <= options.slower
    print("flat" if flat else "GROWS")
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
