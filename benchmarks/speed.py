"""Training speed, ours beside the bare engine and the peers: ``python benchmarks/speed.py --help``.

Everything is measured in one go and in turns, a whole round before the next, since machines are noisy;
what is shown is the median of the rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.parity import plain_changes
from benchmarks.peer_setup import DEFAULT, peer_python
from benchmarks.runs import Run, source_state
from benchmarks.speed_report import write_speed
from benchmarks.zoo import ZOO, same_spec, zoo_spec
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.errors import PPOError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.registry import resolve

ENVIRONMENTS = ("CartPole", "BipedalWalker", "Hopper", "HalfCheetah", "Ant", "Humanoid", "BreakoutPixels")
SF_IDS = {
    "CartPole": "CartPole-v1",
    "BipedalWalker": "BipedalWalker-v3",
    "Hopper": "Hopper-v4",  # its Gymnasium has no v5
    "HalfCheetah": "HalfCheetah-v4",
    "Ant": "Ant-v4",
    "Humanoid": "Humanoid-v4",
}
SB3_VARIANTS = ({"threads": 1, "processes": False}, {"threads": 1, "processes": True})
"""Ways to run Stable-Baselines3; each round takes the one that was fastest in the first."""

SMALL = ("ppo.minibatch_size=64", "ppo.epochs=10")
"""Stable-Baselines3's default minibatch and epochs. Both sides then train the plain algorithm of `parity.py`
(64-64 tanh, normalisers only), since a launcher's friends may cost more or end an update early."""

Measurement = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """Measure training steps a second, the bare engine's rate, memory, and where the time goes."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Launchers."""

    ranks: tuple[int, ...] = (1, 2)
    """MPI ranks to measure with; 1 is measured on a single core too."""

    seconds: float = 20.0
    """Of training in each measurement."""

    rounds: int = 3
    """The median of so many is shown."""

    peers: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure Stable-Baselines3 and Sample-Factory too."""

    peers_dir: Path = DEFAULT
    """Where the peers' virtual environments are, or are made."""

    output: Path = Path("results/speed")
    """Where speed.json, speed.md and speed.png go."""


def plan(experiment: Experiment, options: Options) -> dict[str, Measurement]:
    """What to measure for a launcher, by column."""
    spec = {"environment": experiment.name, "seconds": options.seconds}
    columns: dict[str, Measurement] = {}
    if 1 in options.ranks:
        columns["ours, 1 rank on 1 core"] = lambda: measure.ours(spec, 1, one_core=True)
    for ranks in options.ranks:
        if ranks != 1 or usable_cores() > 1:
            columns[f"ours, {ranks} rank{'s' * (ranks > 1)}"] = partial(measure.ours, spec, ranks)
    if not options.peers:
        return columns
    if experiment.environment.atari is None:
        changes = plain_changes(experiment.name, experiment.num_timesteps)
        changes = replace(changes, set=(*changes.set, *SMALL))
        plain = {"set": changes.set, "with": changes.with_, "without": changes.without, "engine": False}
        columns["ours, minibatch 64, 10 epochs"] = lambda: measure.ours(spec | plain, 1, one_core=True)
    python = peer_python("sb3", options.peers_dir)
    stop = {"seconds": options.seconds}
    columns["SB3, our settings"] = _best_sb3(python, same_spec(experiment) | stop)
    if experiment.name in ZOO:
        columns["SB3, zoo settings"] = _best_sb3(python, zoo_spec(experiment) | stop)
    if experiment.environment.atari is None:
        small = same_spec(Run.of(experiment.name, 1, Path(), changes).experiment)
        columns["SB3, minibatch 64, 10 epochs"] = _best_sb3(python, small | stop)
    if experiment.name in SF_IDS:
        sf = peer_python("sf", options.peers_dir)
        env_id = SF_IDS[experiment.name]
        columns["Sample-Factory"] = lambda: measure.sample_factory(sf, env_id, options.seconds)
    return columns


def _best_sb3(python: Path, spec: measure.Spec) -> Measurement:
    """Tries every variant at the first call and stays with the fastest."""
    chosen: list[dict[str, Any]] = []

    def run() -> dict[str, Any]:
        if chosen:
            return measure.sb3(python, spec | chosen[0]) | {"variant": chosen[0]}
        # A single environment gains nothing from a process of its own.
        variants = SB3_VARIANTS[:1] if spec["n_envs"] == 1 else SB3_VARIANTS
        results = [measure.sb3(python, spec | variant) | {"variant": variant} for variant in variants]
        best = max(results, key=lambda result: result["steps_per_second"])
        chosen.append(best["variant"])
        return best

    return run


def measure_all(options: Options) -> dict[str, Any]:
    """All rounds; a measurement that fails is recorded as such and tried again in the next round."""
    plans = {}
    for name in options.environments:
        experiment = resolve(name)
        plans[experiment.name] = plan(experiment, options)
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {column: [] for column in columns} for name, columns in plans.items()
    }
    failures: list[str] = []
    for number in range(options.rounds):
        for name, columns in plans.items():
            for column, run in columns.items():
                try:
                    result = run()
                except measure.MeasurementError as error:
                    failures.append(f"{name}, {column}: {error}")
                    print(f"[{number + 1}/{options.rounds}] {failures[-1]}", flush=True)
                    continue
                rows[name][column].append(result)
                rate = result["steps_per_second"]
                print(f"[{number + 1}/{options.rounds}] {name}, {column}: {rate:,.0f} steps/s", flush=True)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": usable_cores(),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "source": source_state(),
        "versions": library_versions(),
        "failures": failures,
        "rows": rows,
    }


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/speed.py")
    try:
        results = measure_all(options)
        print(write_speed(results, options.output))
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
