"""Ours beside sb3-contrib's MaskablePPO and RecurrentPPO: ``python benchmarks/contrib.py --help``.

Launchers with memory are compared with RecurrentPPO, which has LSTMs only and learns from whole rollouts of
an environment instead of chunks (``ppo.sequence_length``); the others, with masks, with MaskablePPO. Both
sides have the same settings, environments, timesteps and evaluation episodes, on one core and one thread
each. They run in turns, so that a busy machine slows both; the times of CPU don't count what others take.
Launchers with both, or with neither, are refused.
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
from benchmarks.peers import NORMALIZED_REWARDS, measure_peer, moving, require, same_spec
from benchmarks.report import ROOT, markdown, origin, save, script, stamp
from benchmarks.runs import Changes, Run
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.checked_env import make_checked

SIDES = {"ours": "ours", "maskable": "MaskablePPO", "recurrent": "RecurrentPPO"}
HEADER = ("environment", "side", "seeds", "evaluated return, mean", "worst", "steps / s", "steps / s of CPU")


@dataclass(frozen=True)
class Options:
    """Compare returns and rates with sb3-contrib's at the same settings."""

    environments: tuple[str, ...] = ("Taxi", "ManyActions")
    """Launchers of environments with masks in their infos, or with an LSTM."""
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
    output: Path = Path("results/contrib/contrib.json")
    """Gets each run when it ends, and a table beside it. Runs that it has aren't done again."""


def changes(options: Options) -> Changes:
    """What is changed about the launchers."""
    steps = () if options.timesteps is None else (f"num_timesteps={options.timesteps}",)
    return Changes((*steps, *options.set))


def row_of(name: str, options: Options) -> str:
    """What a launcher's runs are filed under: its name, and whatever was changed about it."""
    changed = ", ".join(changes(options).set)
    return f"{name} ({changed})" if changed else name


def run_ours(name: str, seed: int, options: Options) -> dict[str, Any]:
    """Train and evaluate. Raises MeasurementError if that failed."""
    spec = {"name": name, "seed": seed, "changes": changes(options).set, "episodes": options.episodes}
    how = {"limit": math.inf, "pinned": True, "variables": variables(1)}
    result: dict[str, Any] = measure.on_ranks("contrib_ours.py", spec, **how)
    return result


def place_of(target: str) -> str:
    """``module:Class`` of this package, which the peer's Python lacks, as ``file.py:Class``."""
    module, _, name = target.rpartition(":")
    if not module.startswith("ppo_and_friends.environments."):
        return target
    place = ROOT / Path(*module.split(".")[1:])
    return f"{place / '__init__.py' if place.is_dir() else place.with_suffix('.py')}:{name}"


def why_not(run: Run) -> str | None:
    """What about a run neither peer can do, as a sentence; None: one of them can do it."""
    settings, memory = run.experiment.environment, run.experiment.network.memory
    masked = has_masks(settings)
    if memory and masked:
        return (
            "it has memory and action masks, and sb3-contrib has no PPO with both. Compare without one of "
            "them: --set network.memory=none, or --set environment.action_masks=off."
        )
    if memory not in (None, "lstm"):
        return "RecurrentPPO has LSTMs only. Add --set network.memory=lstm."
    if len(settings.wrappers) > 1 or "(" in "".join(settings.wrappers):
        return "the peers' environments take one wrapper at most, without arguments."
    if not memory and not masked:
        return "it has neither memory nor action masks: benchmarks/parity.py is for such launchers."
    return None


def has_masks(settings: EnvironmentSettings) -> bool:
    """Whether its environment says which actions are legal, where the settings say to look."""
    env = make_checked(settings, 0)
    try:
        return env.masked
    finally:
        env.close()


def contrib_spec(run: Run, episodes: int) -> dict[str, Any]:
    """The settings of one of our runs for sb3-contrib, with schedules and normalised rewards.

    Args:
        run: Ours.
        episodes: To evaluate it in after training, from the initial states that ours are evaluated from.

    Raises:
        UsageError: Neither peer can do the same.
    """
    spec, friends = same_spec(run), {friend.name for friend in run.experiment.friends}
    settings, network = run.experiment.environment, run.experiment.network
    if problem := why_not(run):
        raise UsageError(f"{run.experiment.name}: {problem}")
    for name in ("learning_rate", "clip_range"):
        spec["ppo"][name] = moving(getattr(run.experiment.ppo, name))
    memory = network.memory and {
        "lstm_hidden_size": network.memory_width,
        "n_lstm_layers": network.memory_layers,
        "shared_lstm": network.memory_shared,
        "enable_critic_lstm": not network.memory_shared,
    }
    return spec | {
        "env_id": place_of(settings.id),
        "wrapper": place_of(settings.wrappers[0]) if settings.wrappers else None,
        "memory": memory,
        "log_std_init": spec["log_std_init"] if memory else None,  # MaskablePPO has no such parameters
        "norm_reward": bool(NORMALIZED_REWARDS & friends),
        "evaluate": [SEED + episode for episode in range(episodes)],
    }


def peer_of(name: str, options: Options) -> str:
    """Which peer has what a launcher needs."""
    return "recurrent" if Run.of(name, 1, Path(), changes(options)).experiment.network.memory else "maskable"


def run_peer(name: str, seed: int, options: Options) -> dict[str, Any]:
    """Train and evaluate the peer. Raises MeasurementError if that failed."""
    run = Run.of(name, seed, Path(), changes(options))
    spec = contrib_spec(run, options.episodes)
    found = measure_peer(options.peer_python, spec, limit=math.inf, script="peer_contrib.py")
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
    require(options.peer_python)
    names = {row_of(name, options): name for name in options.environments}
    for name in names.values():  # what a peer can't do is said before anything is trained
        contrib_spec(Run.of(name, 1, Path(), changes(options)), options.episodes)
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    if options.output.exists():
        rows = json.loads(options.output.read_bytes())["rows"]
    plan = [
        (seed, row, side)
        for seed in options.seeds
        for row, name in names.items()
        for side in ("ours", peer_of(name, options))
    ]

    def measured(row: str, side: str) -> None:
        run = rows[row][side][-1]
        save(options.output, about | {"rows": rows}, f"{table(rows)}\n\n{origin(about)}.\n")
        print(f"{row} seed {run['seed']}, {SIDES[side]}: {run['mean']:.2f}", flush=True)

    failed = measure.in_turns(
        plan,
        rows,
        lambda row, seed, side: (run_ours if side == "ours" else run_peer)(names[row], seed, options),
        measured,
    )
    print(table(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
