"""Our learning curves beside Stable-Baselines3's, same settings, same environments.

``python benchmarks/parity.py --help``. Both sides get the plain algorithm as Stable-Baselines3 has it:
advantages normalised in each minibatch, the same networks, schedules and normalisation. Then the curves
should agree within their spread over seeds; where they don't, one of the two has a defect.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.figures import seeds_on_grid
from benchmarks.jobs import last_line
from benchmarks.peer_setup import DEFAULT, peer_python
from benchmarks.runs import Changes, Run, source_state
from benchmarks.zoo import same_spec
from ppo_and_friends.atomic_files import replace_file
from ppo_and_friends.errors import PPOError
from ppo_and_friends.experiment import Experiment
from ppo_and_friends.registry import resolve
from ppo_and_friends.reporting.curves import Array, load_run

ENVIRONMENTS = ("CartPole", "LunarLander", "HalfCheetah", "BipedalWalker")
NORMALISED = ("HalfCheetah", "BipedalWalker")
"""Those that learn from normalised observations and rewards."""

COMMON = (
    "ppo.epochs=10",
    "ppo.learning_rate=3e-4",
    "ppo.clip=0.2",
    "ppo.discount=0.99",
    "ppo.trace_decay=0.95",
    "ppo.entropy_weight=0.0",
    "ppo.value_weight=0.5",
    "ppo.max_gradient_norm=0.5",
    "ppo.adam_epsilon=1e-5",
    "network.actor_hidden=64,64",
    "network.critic_hidden=64,64",
    "network.activation=tanh",
    "network.initial_log_std=0.0",
    "environment.num_envs=8",
    "ppo.rollout_timesteps=4096",
    "ppo.minibatch_size=128",
)
BUDGETS = {"CartPole": 100_000, "LunarLander": 400_000, "HalfCheetah": 1_000_000, "BipedalWalker": 1_000_000}
LIMIT = 3.0
"""Standard errors by which the areas under the curves may differ."""


@dataclass(frozen=True)
class Options:
    """Compare learning curves with Stable-Baselines3's at the same settings."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Launchers."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """A run for each, on each side."""

    timesteps: int | None = None
    """Of each run (default: enough to see it learn)."""

    peers_dir: Path = DEFAULT
    """Where the peers' virtual environments are, or are made."""

    output: Path = Path("results/parity")
    """Where parity.json, parity.md and parity.png go."""

    report_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the report again from parity.json."""


def plain_changes(name: str, timesteps: int) -> Changes:
    """The changes that make a launcher the plain algorithm.

    Args:
        name: The launcher's.
        timesteps: Of the run.
    """
    friends = [f"AdvantageNormalizer:per_minibatch={json.dumps(True)}"]
    if name in NORMALISED:
        # As VecNormalize does: clipped at 10 standard deviations.
        friends = ["ObservationNormalizer", "ObservationClip:limit=10", "RewardNormalizer", *friends]
        friends.insert(3, "RewardClip:low=-10,high=10")
    without = tuple(spec.name for spec in resolve(name).friends)
    return Changes((f"num_timesteps={timesteps}", *COMMON), tuple(friends), without)


def our_curve(run: Run) -> list[list[float]]:
    """Train ours on one rank; timesteps and mean score of 100 episodes."""
    log = run.work / "log"
    code = measure.run_limited(run.command(), log, math.inf, measure.plain_variables())
    if code != 0:
        raise measure.MeasurementError(f"{run.name} failed: {last_line(log)}")
    columns = load_run(run.folder.path).columns
    return [list(pair) for pair in zip(columns["timesteps"], columns["score_mean_100"], strict=True)]


def their_curve(python: Path, experiment: Experiment, seed: int) -> list[list[float]]:
    """Train Stable-Baselines3; the same."""
    spec = same_spec(experiment) | {"seed": seed, "threads": 1}
    result = measure.sb3(python, spec, limit=math.inf)
    return [[row[0], row[2]] for row in result["curve"]]


def compare(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, float]:
    """How far the two sides' curves are apart, in the scale of their spread over seeds.

    Args:
        ours: For each seed [points, 2], timesteps and score.
        theirs: The same.

    Returns:
        Areas under the curves (mean score over the run), their difference in standard errors (Welch's t), and
        the share of the run in which the means are within two standard errors of each other.
    """
    grid, table = seeds_on_grid([_columns(curve) for curve in [*ours, *theirs]])
    mine, other = table[: len(ours)], table[len(ours) :]
    areas = mine.mean(1), other.mean(1)
    gap = areas[0].mean() - areas[1].mean()
    error = math.sqrt(sum(_variance_of_mean(area) for area in areas))
    pointwise = np.sqrt(_variance_of_mean(mine) + _variance_of_mean(other))
    apart = np.abs(mine.mean(0) - other.mean(0))
    return {
        "ours": float(areas[0].mean()),
        "theirs": float(areas[1].mean()),
        "standard_errors": float(gap / error)
        if error > 0
        else (0.0 if gap == 0 else math.copysign(1e9, gap)),
        "within": float(np.mean(apart <= 2 * pointwise)),
        "timesteps": float(grid[-1]),
    }


def _columns(curve: Any) -> tuple[Array, Array]:
    pairs = np.array([pair for pair in curve if pair[1] is not None], dtype=np.float64)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    return pairs[:, 0], pairs[:, 1]


def _variance_of_mean(values: Array) -> Any:
    """Of the mean over seeds (the first axis); 0 for a single seed."""
    return values.var(0, ddof=1) / len(values) if len(values) > 1 else np.zeros(values.shape[1:])


def report(curves: dict[str, dict[str, Any]], output: Path) -> str:
    """Write the table and the figure; returns the table."""
    lines = [
        "| environment | timesteps | seeds | ours | SB3 | standard errors apart | within spread | agrees |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, sides in curves.items():
        one = compare(sides["ours"], sides["theirs"])
        agrees = "yes" if abs(one["standard_errors"]) <= LIMIT else "**no**"
        lines.append(
            f"| {name} | {one['timesteps']:,.0f} | {len(sides['ours'])} | {one['ours']:.1f} "
            f"| {one['theirs']:.1f} | "
            f"{one['standard_errors']:+.1f} | {100 * one['within']:.0f}% | {agrees} |"
        )
    text = "\n".join(lines) + "\n\nOurs and SB3: mean training score over the whole run, mean of the seeds.\n"
    replace_file(output / "parity.md", ("# Parity with Stable-Baselines3\n\n" + text).encode())
    _draw(curves, output / "parity.png")
    return text


def _draw(curves: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(curves), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (name, sides) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        for side, color, label in (("ours", "#0072B2", "ours"), ("theirs", "#E69F00", "SB3")):
            grid, scores = seeds_on_grid([_columns(curve) for curve in sides[side]])
            panel.plot(grid, scores.mean(0), color=color, label=label)
            panel.fill_between(grid, scores.min(0), scores.max(0), color=color, alpha=0.2, linewidth=0)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Train both sides and compare; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/parity.py")
    options.output.mkdir(parents=True, exist_ok=True)
    record = options.output / "parity.json"
    try:
        if options.report_only:
            print(report(json.loads(record.read_bytes())["curves"], options.output))
            return 0
        python = peer_python("sb3", options.peers_dir)
        curves: dict[str, dict[str, Any]] = {
            name: {"ours": [], "theirs": []} for name in options.environments
        }
        for seed in options.seeds:
            for name, sides in curves.items():
                changes = plain_changes(name, options.timesteps or BUDGETS[name])
                with tempfile.TemporaryDirectory() as place:
                    run = Run.of(name, seed, Path(place), changes)
                    sides["ours"].append(our_curve(run))
                    sides["theirs"].append(their_curve(python, run.experiment, seed))
                print(f"seed {seed}, {name}: {compare(sides['ours'], sides['theirs'])}", flush=True)
            data = {"source": source_state(), "settings": COMMON, "curves": curves}
            replace_file(record, (json.dumps(data) + "\n").encode())
        print(report(curves, options.output))
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
