"""Our learning curves beside Stable-Baselines3's, same settings, same environments: ``parity.py --help``.

Both sides get the plain algorithm as Stable-Baselines3 has it: advantages normalised in each minibatch, the
same networks, schedules and normalisation, one core each. Then the curves should agree within their spread
over seeds; where they don't, one of the two has a defect.
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
from benchmarks.figures import draw_sides, seeds_on_grid
from benchmarks.jobs import Job, run_all
from benchmarks.peers import require, same_spec
from benchmarks.report import MeasurementError, markdown, save, script
from benchmarks.runs import Changes, Run, sessions_of
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.run_record import Array, load_run
from ppo_and_friends.settings.registry import resolve

NORMALISED = ("HalfCheetah", "BipedalWalker")
"""Those that learn from normalised observations and rewards."""

COMMON = (
    *("ppo.epochs=10", "ppo.learning_rate=3e-4", "ppo.clip_range=0.2", "ppo.gamma=0.99"),
    *("ppo.gae_lambda=0.95", "ppo.entropy_coefficient=0.0", "ppo.value_coefficient=0.5"),
    *("ppo.max_grad_norm=0.5", "ppo.adam_epsilon=1e-5", "network.actor_hidden=64,64"),
    *("network.critic_hidden=64,64", "network.activation=tanh", "network.log_std_init=0.0"),
    *("environment.num_envs=8", "ppo.rollout_timesteps=4096", "ppo.minibatch_size=128"),
)
BUDGETS = {"CartPole": 100_000, "LunarLander": 400_000, "HalfCheetah": 500_000, "BipedalWalker": 500_000}
LIMIT = 3.0
"""Standard errors by which the areas under the curves may differ."""

HEADER = ("environment", "timesteps", "seeds", "ours", "SB3")
HEADER += ("standard errors apart", "within spread", "agrees")
OF_A_CURVE = ("timesteps", "episode_return_mean_100", "seconds")
NOTE = "Ours and SB3: mean training score over the whole run, mean of the seeds."
Points = tuple[Array, Array]
Curves = dict[str, dict[str, Any]]
"""By environment; of each ``ours`` and ``theirs``, for each seed points of timesteps, score and seconds."""


@dataclass(frozen=True)
class Options:
    """Compare learning curves with Stable-Baselines3's at the same settings."""

    environments: tuple[str, ...] = tuple(BUDGETS)
    """Launchers."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """A run for each, on each side."""
    timesteps: int | None = None
    """Of each run (default: enough to see it learn); other ones need a --work and --output of their own."""
    jobs: int | None = None
    """Runs at once (default: the cores)."""
    work: Path = Path(".parity")
    """Where runs are kept; what is finished there isn't done again. Remove it to start over."""
    peer_python: Path = Path(".parity/sb3-venv/bin/python")
    """A Python of an environment of its own with Stable-Baselines3 (docs/environments.md says how)."""
    output: Path = Path("results/parity")
    """Where parity.json, parity.md and parity.png go."""
    report_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the report again from parity.json."""


def plain_changes(name: str, timesteps: int) -> Changes:
    """The changes that make a launcher the plain algorithm, in a run of so many timesteps."""
    friends = [f"AdvantageNormalizer:per_minibatch={json.dumps(True)}"]
    if name in NORMALISED:
        # As VecNormalize does: clipped at 10 standard deviations.
        normalizers = "ObservationNormalizer ObservationClip:limit=10 RewardNormalizer"
        friends = [*normalizers.split(), "RewardClip:low=-10,high=10", *friends]
    without = tuple(spec.name for spec in resolve(name).friends)
    return Changes((f"num_timesteps={timesteps}", *COMMON), tuple(friends), without)


def theirs(python: Path, run: Run, place: Path) -> Job | None:
    """What trains Stable-Baselines3 at the settings of our run; None: it is trained."""
    answer = their_result(run, place)
    asked, log = answer.with_suffix("").with_suffix(".spec.json"), answer.with_suffix(".log")
    spec = json.dumps(same_spec(run))
    if asked.exists() and asked.read_text() == spec and answer.exists():
        return None
    place.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    asked.write_text(spec)
    command = [str(part.absolute()) for part in (python, measure.HERE / "peer_sb3.py", asked, answer)]
    return Job(f"SB3, {run.name}", [command], log.absolute())


def their_result(run: Run, place: Path) -> Path:
    """What Stable-Baselines3 answered."""
    return place / f"{run.experiment.name}-{run.seed}.result.json"


def asked_runs(options: Options) -> list[Run]:
    """Our side of what is to be compared."""
    if options.timesteps and {options.work, options.output} & {Options.work, Options.output}:
        raise UsageError("Other timesteps go elsewhere: give --work and --output folders of their own.")
    runs: list[Run] = []
    for seed in options.seeds:
        for name in dict.fromkeys(resolve(name).name for name in options.environments):
            budget = options.timesteps or BUDGETS.get(name)
            if budget is None:
                raise UsageError(f"{name} has no usual budget here: give --timesteps.")
            runs.append(Run.of(name, seed, options.work / "ours", plain_changes(name, budget)))
    if not runs:
        raise UsageError("Nothing is compared: give --environments and --seeds.")
    return runs


def train_all(runs: list[Run], options: Options) -> Curves:
    """Train what isn't yet; all curves. Raises KeyboardInterrupt, after which the next time continues."""
    python, place = options.peer_python, options.work / "sb3"
    require(python)
    jobs: list[Job] = []
    for run in runs:
        both = theirs(python, run, place), None if run.trained else run.job(f"ours, {run.name}")
        jobs += [job for job in both if job is not None]
    if len(jobs) < 2 * len(runs):
        print(f"{2 * len(runs) - len(jobs)} of {2 * len(runs)} runs were done before, in {options.work}")
    run_all(jobs, options.jobs)
    curves: Curves = {run.environment: {"ours": [], "theirs": []} for run in runs}
    for run in runs:
        columns = load_run(run.folder.path).columns
        ours = np.transpose([columns[name] for name in OF_A_CURVE]).tolist()
        curves[run.environment]["ours"].append(ours)
        rows = json.loads(their_result(run, place).read_bytes())["curve"]
        curves[run.environment]["theirs"].append([[steps, score, seconds] for steps, seconds, score in rows])
    return curves


def compare(ours: Sequence[Points], theirs: Sequence[Points]) -> dict[str, float]:
    """How far the two sides' curves (for each seed) are apart, in the scale of their spread over seeds.

    Returns:
        Areas under the curves (mean score over the run), their difference in standard errors (Welch's t), and
        the share of the run in which the means are within two standard errors of each other.
    """
    grid, table = seeds_on_grid([*ours, *theirs])
    mine, other = table[: len(ours)], table[len(ours) :]
    gap = float(mine.mean() - other.mean())
    error = math.sqrt(_variance_of_mean(mine.mean(1)) + _variance_of_mean(other.mean(1)))
    pointwise = np.sqrt(_variance_of_mean(mine) + _variance_of_mean(other))
    return {
        "ours": float(mine.mean()),
        "theirs": float(other.mean()),
        "standard_errors": gap / error if error > 0 else math.copysign(1e9, gap) if gap else 0.0,
        "within": float(np.mean(np.abs(mine.mean(0) - other.mean(0)) <= 2 * pointwise)),
        "timesteps": float(grid[-1]),
    }


def points(curve: Any) -> Points:
    """Timesteps and scores, where there is a score."""
    pairs = np.array([row[:2] for row in curve if row[1] is not None], dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    if not len(pairs):
        raise MeasurementError("A run ended before its first episode did: there is nothing to compare.")
    return pairs[:, 0], pairs[:, 1]


def _variance_of_mean(values: Array) -> Any:
    """Of the mean over seeds (the first axis); 0 for a single seed."""
    return values.var(0, ddof=1) / len(values) if len(values) > 1 else np.zeros(values.shape[1:])


def report(curves: Curves, about: dict[str, Any], output: Path) -> str:
    """Write the curves with what is to be known of them, a table and a figure; returns the table."""
    rows, sides, path = [], {}, output / "parity.json"
    for name, pair in curves.items():
        sides[name] = {side: [points(curve) for curve in pair[side]] for side in pair}
        one, seeds = compare(**sides[name]), len(pair["ours"])
        agrees = "-" if seeds < 2 else "yes" if abs(one["standard_errors"]) <= LIMIT else "**no**"
        cells = [name, f"{one['timesteps']:,.0f}", str(seeds)]
        cells += [f"{one['ours']:.1f}", f"{one['theirs']:.1f}", f"{one['standard_errors']:+.1f}"]
        rows.append([*cells, f"{100 * one['within']:.0f}%", agrees])
    text = f"{markdown(HEADER, rows, text=(0, -1))}\n\n{NOTE}\n"
    save(path, about | {"curves": curves}, f"# Parity with Stable-Baselines3\n\n{text}", indent=None)
    draw_sides(sides, path.with_suffix(".png"))
    return text


@script(Options)
def main(options: Options) -> int:
    """Train what isn't trained yet, and compare."""
    record = options.output / "parity.json"
    if options.report_only:
        if not record.exists():
            raise UsageError(f"{record} is missing: there is nothing to report yet.")
        known = json.loads(record.read_bytes())
        print(report(known.pop("curves"), known, options.output))
        return 0
    runs = asked_runs(options)
    curves = train_all(runs, options)
    # What was trained before may be of another commit than this one.
    commits = sorted({str(one["commit"]) for run in runs for one in sessions_of(run.folder.path)})
    print(report(curves, {"commits": commits, "settings": COMMON}, options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
