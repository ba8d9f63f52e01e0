"""Whether anything grows in a long run: ``python benchmarks/long_run.py --iterations 50000``.

A small run saves after each iteration. Memory, CPU time, open files, threads, and the number and the sizes of
its files are noted; what rises over the second half by more than its bound grows. ``progress.csv`` and the
event files have a row an iteration, so their rows must have a size that doesn't rise. Ctrl-C shows what was
seen so far.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import markdown, script
from ppo_and_friends.api.run import Run
from ppo_and_friends.settings.registry import launcher_experiment

BOUNDS = {
    "memory, kB": 2.0,
    "open files": 0.0,
    "threads": 0.0,
    "files": 0.0,
    "checkpoints, bytes": 1.0,
    "a row's bytes": 0.05,
}
"""By how much each may rise with an iteration. Counters in a checkpoint get a digit now and then."""

SLOWER, JUDGED_FROM = 1.25, 1_000
"""Times that an iteration at the end may take of the CPU time of one in the middle, in runs of so many."""

CPU = "CPU, s"
ROLLOUT = 64


@dataclass(frozen=True)
class Options:
    """Train for many iterations with a checkpoint each, and find what grows."""

    iterations: int = 2_000
    """Of the run."""
    environment: str = "CartPole"
    """Launcher."""


def look(folder: Path, iteration: int) -> dict[str, float]:
    """What may grow, now."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    grows = [path for path in files if path.name == "progress.csv" or path.name.startswith("events.")]
    fixed = sum(path.stat().st_size for path in files if path not in grows)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory, kB": pages * resource.getpagesize() / 1024,
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count() + len(os.listdir("/proc/self/task")),
        "files": len(files),
        "checkpoints, bytes": fixed,
        "a row's bytes": sum(path.stat().st_size for path in grows) / iteration,
        CPU: time.process_time(),
    }


def watch(environment: str, iterations: int) -> dict[str, NDArray[np.float64]]:
    """Train, and return what `look` saw after each iteration, until Ctrl-C."""
    experiment = launcher_experiment(environment).with_changes(
        {"checkpoint_seconds": 0, "ppo.epochs": 1}
        | dict.fromkeys(("ppo.rollout_timesteps", "ppo.minibatch_size"), ROLLOUT)
        | dict.fromkeys(("network.actor_hidden", "network.critic_hidden"), 8),
        num_timesteps=(iterations + 1) * ROLLOUT,
        num_envs=4,
    )
    # Filled, so that noting takes no memory of its own.
    seen = {name: np.full(iterations, np.nan) for name in (*BOUNDS, CPU)}
    done = 0
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(KeyboardInterrupt):
        for number, _ in enumerate(Run(experiment, place, verbosity=-1).iterations(), 1):
            for name, value in look(Path(place), number).items():
                seen[name][number - 1] = value
            done = number
            if done == iterations:
                break
    return {name: values[:done] for name, values in seen.items()}


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


def growing(seen: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """What rises, and by how much an iteration."""
    return {name: rise for name, bound in BOUNDS.items() if (rise := slope(seen[name])) > bound}


@script(Options)
def main(options: Options) -> int:
    """Watch a run; 1 if something grows."""
    begun = time.monotonic()
    seen = watch(options.environment, options.iterations)
    done = len(seen["files"])
    if done < 8:
        print(f"{done} iterations are too few to see anything rise.")
        return 1
    grows = growing(seen)
    rows = []
    for name, bound in BOUNDS.items():
        values = seen[name]
        cells = [f"{values[done // 2]:,.0f}", f"{values[-1]:,.0f}", f"{slope(values):.4f}", f"{bound:g}"]
        rows.append([name, *cells, "GROWS" if name in grows else "flat"])
    slower = slowdown(seen[CPU])
    print(f"{done:,} iterations of {options.environment}, {time.monotonic() - begun:.0f} s\n")
    print(markdown(("", "half-way", "at the end", "rise an iteration", "at most", ""), rows))
    print(f"\nCPU time of an iteration, last quarter over second: {slower:.2f}, of {SLOWER} at most")
    return int(bool(grows) or (slower > SLOWER and done >= JUDGED_FROM))


if __name__ == "__main__":
    raise SystemExit(main())
