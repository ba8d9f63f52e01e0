"""Learning curves of launchers with a change beside those without: ``python benchmarks/compare.py --help``.

For changes that should make training faster and leave the learning as it is. Curves that are apart by more
than their spread over seeds say that it isn't; few seeds have a wide spread.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.curve_comparison import Sides, save
from benchmarks.runs import Changes, Run
from benchmarks.training import run_all, training, training_curve
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.registry import resolve

Texts = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class Options:
    """Compare learning curves with and without a change."""

    environments: tuple[str, ...]
    """Launchers."""

    timesteps: int
    """Of each run."""

    set: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """The change: a setting."""

    with_: Annotated[Texts, tyro.conf.arg(name="with", metavar="FRIEND")] = ()
    """The change: a friend that is added."""

    without: Annotated[Texts, tyro.conf.arg(metavar="FRIEND")] = ()
    """The change: a friend that is removed."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """A run for each, with and without."""

    jobs: int | None = None
    """Runs at once (default: the cores)."""

    work: Path = Path(".compare")
    """Where runs are kept, by their settings; what is finished isn't done again. Remove it to start over."""

    output: Path = Path("results/compare")
    """Where compare.json, compare.md and compare.png go."""


def asked_runs(options: Options) -> dict[str, list[Run]]:
    """The runs of both sides.

    Raises:
        UsageError: Nothing is changed, or what both sides must have alike; or there is no such launcher.
    """
    change = Changes(options.set, options.with_, options.without)
    if not (change.arguments() and options.environments and options.seeds):
        raise UsageError("Nothing is compared: give --environments, --seeds, and --set, --with or --without.")
    for setting in options.set:
        if setting.split("=")[0].strip() in ("num_timesteps", "random_seed"):
            raise UsageError(f"--set {setting}: both sides have the same --timesteps and --seeds.")
    budget = f"num_timesteps={options.timesteps}"
    sides = {
        "theirs": Changes((budget,)),
        "ours": Changes((budget, *change.set), change.with_, change.without),
    }
    names = dict.fromkeys(resolve(name).name for name in options.environments)
    return {
        side: [
            _in_its_place(Run.of(name, seed, options.work, changes))
            for name in names
            for seed in dict.fromkeys(options.seeds)
        ]
        for side, changes in sides.items()
    }


def _in_its_place(run: Run) -> Run:
    """In a folder for its settings, so that no comparison takes away what another one trained."""
    return dataclasses.replace(run, work=run.work / run.hash)


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Train both sides and compare; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/compare.py")
    change = " ".join(Changes(options.set, options.with_, options.without).arguments())
    try:
        runs = asked_runs(options)
        words = {"ours": "with", "theirs": "without"}
        pairs = zip(runs["theirs"], runs["ours"], strict=True)
        jobs = [
            training(run, words[side])
            for pair in pairs
            for side, run in zip(("theirs", "ours"), pair, strict=True)
        ]
        run_all([job for job in jobs if job is not None], options.jobs)
        names = dict.fromkeys(run.environment for run in runs["ours"])
        curves = {
            name: {
                side: [training_curve(run) for run in runs[side] if run.environment == name] for side in words
            }
            for name in names
        }
        commits = {str(one["commit"]) for side in runs.values() for run in side for one in run.sessions()}
        sides = Sides(f"With and without `{change}`", "with", "without", "compare")
        print(save(curves, {"change": change, "commits": sorted(commits)}, options.output, sides))
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
