"""Ours beside sb3-contrib's MaskablePPO on environments with masks: ``python benchmarks/masks.py --help``.

Both have the same settings, environments, timesteps and evaluation episodes, on one core and one thread
each. They run in turns, so that a busy machine slows both; the times of CPU don't count what others take.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import jobs as measure
from benchmarks.evaluate_run import SEED
from benchmarks.jobs import variables
from benchmarks.peers import NORMALIZED_REWARDS, measure_peer, moving, same_spec
from benchmarks.report import ROOT, markdown, origin, save, script, stamp
from benchmarks.runs import Changes, Run

SIDES = {"ours": "ours", "maskable": "MaskablePPO"}
HEADER = ("environment", "side", "seeds", "evaluated return, mean", "worst", "steps / s", "steps / s of CPU")


@dataclass(frozen=True)
class Options:
    """Compare returns and rates with MaskablePPO's at the same settings."""

    environments: tuple[str, ...] = ("Taxi", "ManyActions")
    """Launchers of environments with masks in their infos."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """A run for each, on each side."""
    timesteps: int | None = None
    """Of each run; None: the launcher's."""
    episodes: int = 100
    """Evaluated after training, with the most probable actions, from equal initial states."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change a setting, on both sides."""
    peer_python: Path = Path(".parity/sb3-venv/bin/python")
    """A Python with sb3-contrib (docs/action_masks.md)."""
    output: Path = Path("results/masks/masks.json")
    """Gets each run when it ends, and a table beside it. Runs that it has aren't done again."""


def changes(options: Options) -> Changes:
    """What is changed about the launchers."""
    steps = () if options.timesteps is None else (f"num_timesteps={options.timesteps}",)
    return Changes((*steps, *options.set))


def run_ours(name: str, seed: int, options: Options) -> dict[str, Any]:
    """Train and evaluate. Raises MeasurementError if that failed."""
    spec = {"name": name, "seed": seed, "changes": changes(options).set, "episodes": options.episodes}
    how = {"limit": math.inf, "pinned": True, "variables": variables(1)}
    result: dict[str, Any] = measure.on_ranks("masks_ours.py", spec, **how)
    return result


def maskable_spec(run: Run, episodes: int) -> dict[str, Any]:
    """The settings of one of our runs for sb3-contrib's MaskablePPO, with schedules and normalised rewards.

    Args:
        run: Ours.
        episodes: To evaluate it in after training, from the initial states that ours are evaluated from.
    """
    spec, friends = same_spec(run), {friend.name for friend in run.experiment.friends}
    spec["ppo"]["learning_rate"] = moving(run.experiment.ppo.learning_rate)
    module, _, name = spec["env_id"].rpartition(":")
    if module.startswith("ppo_and_friends.environments."):
        place = ROOT / Path(*module.split(".")[1:])
        spec["env_id"] = f"{place / '__init__.py' if place.is_dir() else place.with_suffix('.py')}:{name}"
    return spec | {
        "norm_reward": bool(NORMALIZED_REWARDS & friends),
        "log_std_init": None,  # there are no such parameters
        "evaluate": [SEED + episode for episode in range(episodes)],
    }


def run_peer(name: str, seed: int, options: Options) -> dict[str, Any]:
    """Train and evaluate MaskablePPO. Raises MeasurementError if that failed."""
    run = Run.of(name, seed, Path(), changes(options))
    spec = maskable_spec(run, options.episodes)
    found = measure_peer(options.peer_python, spec, script="peer_masks.py")
    return {key: found[key] for key in ("steps_per_second", "steps_per_cpu_second", "mean")}


def table(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Markdown."""
    cells = []
    for name, sides in rows.items():
        for side, title in SIDES.items():
            runs: Sequence[dict[str, Any]] = sides.get(side, [])
            if runs:
                means = [run["mean"] for run in runs]
                rates = [
                    f"{np.median([run[key] for run in runs]):,.0f}"
                    for key in ("steps_per_second", "steps_per_cpu_second")
                ]
                cells.append(
                    [name, title, str(len(runs)), f"{np.mean(means):.2f}", f"{min(means):.2f}", *rates]
                )
    return markdown(HEADER, cells, text=(0, 1))


@script(Options)
def main(options: Options) -> int:
    """Measure in turns, seed by seed; each run is written when it ends. 1 if one failed."""
    about = stamp()
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    if options.output.exists():
        rows = json.loads(options.output.read_bytes())["rows"]
    plan = [(seed, name, side) for seed in options.seeds for name in options.environments for side in SIDES]

    def measured(name: str, side: str) -> None:
        run = rows[name][side][-1]
        save(options.output, about | {"rows": rows}, f"{table(rows)}\n\n{origin(about)}.\n")
        print(f"{name} seed {run['seed']}, {SIDES[side]}: {run['mean']:.2f}", flush=True)

    failed = measure.in_turns(
        plan,
        rows,
        lambda name, seed, side: (run_ours if side == "ours" else run_peer)(name, seed, options),
        measured,
    )
    print(table(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
