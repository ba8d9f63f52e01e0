"""The price of a memory in timesteps per second: ``python benchmarks/recurrent_speed.py --help``.

Each launcher is trained with each kind of memory and without one, everything else being equal, a few
iterations each in turns. Rates are per second of CPU time, environments included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import markdown, origin, save, script, stamp
from ppo_and_friends import train
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.overrides import apply_settings
from ppo_and_friends.settings.registry import resolve

KINDS = {
    "none": ("network.memory=none",),
    "lstm": ("network.memory=lstm",),
    "lstm, shared": ("network.memory=lstm", "network.memory_shared=true"),
    "gru": ("network.memory=gru",),
    "gru, shared": ("network.memory=gru", "network.memory_shared=true"),
}
"""What is compared with the first, without memory: names and settings."""


@dataclass(frozen=True)
class Options:
    """Measure what a memory costs."""

    environments: tuple[str, ...] = ("CartPolePositions", "PendulumPositions", "BipedalWalker")
    """Launchers."""
    iterations: int = 5
    """Of each kind of memory, after one that isn't counted."""
    output: Path = Path("results/speed/recurrent.json")
    """Where the rates go; a table goes beside it."""


def variants(name: str) -> dict[str, Experiment]:
    """A launcher with each kind of memory; one that has none itself gets chunks of 16 steps."""
    base = resolve(name)
    length = base.ppo.sequence_length if base.network.memory else 16
    return {
        kind: apply_settings(
            base, (*settings, f"ppo.sequence_length={1 if kind == 'none' else length}")
        ).with_changes(random_seed=1)
        for kind, settings in KINDS.items()
    }


def rates(experiments: Mapping[str, Experiment], iterations: int) -> dict[str, list[float]]:
    """Timesteps per second of CPU time of each iteration, after the first; all take turns."""
    runs = {
        kind: train(
            e.with_changes(num_timesteps=(iterations + 2) * e.ppo.rollout_timesteps),
            folder=None,
            verbosity=-1,
        ).iterations()
        for kind, e in experiments.items()
    }
    done = {kind: int(next(run)["timesteps"]) for kind, run in runs.items()}
    found: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(iterations):
        for kind, run in runs.items():
            steps, seconds = _timed(run)
            found[kind].append((steps - done[kind]) / seconds)
            done[kind] = steps
    return found


def _timed(run: Iterator[dict[str, float]]) -> tuple[int, float]:
    """Timesteps of the whole run after an iteration, and the CPU seconds that it took."""
    begin = time.process_time()
    steps = int(next(run)["timesteps"])
    return steps, time.process_time() - begin


def table(rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Markdown: the rate without memory, and shares of it."""
    cells = []
    for name, kinds in rows.items():
        medians = {kind: float(np.median(found)) for kind, found in kinds.items()}
        plain = medians.pop("none")
        cells.append([name, f"{plain:,.0f}", *(f"{rate / plain:.2f}" for rate in medians.values())])
    return markdown(("launcher", "without memory, steps / s of CPU", *list(KINDS)[1:]), cells)


@script(Options)
def main(options: Options) -> int:
    """Measure launcher by launcher."""
    if options.iterations < 1:
        raise UsageError(f"--iterations must be at least 1, not {options.iterations}.")
    torch.set_num_threads(1)
    about, rows = stamp(), {}
    for name in options.environments:
        rows[name] = rates(variants(name), options.iterations)
        print(table({name: rows[name]}).splitlines()[-1], flush=True)
    save(options.output, about | {"rows": rows}, f"{table(rows)}\n\n{origin(about)}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
