"""Does the generic launcher learn? Environments that have none of their own, of many kinds.

``python benchmarks/generic.py --help``. Small and large spaces, discrete and continuous, rewards from 1 an
episode to 100,000: each is trained by ``main.py -e ID`` with no setting changed but the budget, and compared
with random actions and, where Gymnasium registers one, the score at which it counts as solved.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import learning
from benchmarks import measurements as measure
from benchmarks.jobs import Pool, last_line
from benchmarks.runs import Changes, Run
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env

BUDGETS = {
    "CartPole-v0": 100_000,
    "FrozenLake-v1": 300_000,
    "Blackjack-v1": 300_000,
    "Taxi-v4": 1_000_000,
    "Reacher-v5": 1_000_000,
    "Pusher-v5": 1_000_000,
    "Hopper-v4": 1_000_000,
    "HalfCheetah-v4": 1_000_000,
    "HumanoidStandup-v4": 1_000_000,
}
"""Timesteps of each. All have a time limit: without one (CliffWalking-v1) a policy that gets nowhere plays
108,000 steps an evaluation episode."""

EPISODES = 100
RANDOM_STEPS = 100_000
"""After which random actions are scored as they are: some environments have no time limit."""


@dataclass(frozen=True)
class Options:
    """Train environments without a launcher of their own."""

    environments: tuple[str, ...] = tuple(BUDGETS)
    """Gymnasium's ids."""

    seeds: tuple[int, ...] = (1, 2)
    """A run for each."""

    timesteps: int | None = None
    """Of each run (default: each environment's usual one); others need a --work and --output of their own."""

    jobs: int | None = None
    """Runs at once (default: the cores)."""

    work: Path = Path(".learning/generic")
    """Where runs are kept; the same command goes on from there. Remove it to start over."""

    output: Path = Path("results/generic.json")
    """Where the measurements go; the table beside it, as .md."""


def random_score(id: str, episodes: int = EPISODES) -> float:
    """Mean score of random actions over so many episodes, or ``RANDOM_STEPS`` timesteps if that is less."""
    env = make_canonical_env(EnvironmentSettings(id=id))
    env.action_space.seed(0)
    scores: list[float] = []
    steps = 0
    try:
        for episode in range(episodes):
            env.reset(seed=episode)
            score, ended = 0.0, False
            while not ended and steps < RANDOM_STEPS:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                score += float(reward)
                ended = terminated or truncated
                steps += 1
            if ended or not scores:
                scores.append(score)
    finally:
        env.close()
    return float(np.mean(scores))


def measure_all(options: Options) -> dict[str, Any]:
    """Train what isn't yet; the rows.

    Raises:
        UsageError: An environment is unknown, or other runs would be overwritten.
        MeasurementError: A run failed.
        KeyboardInterrupt: It was interrupted; the next time goes on from there.
    """
    if options.timesteps and {options.work, options.output} & {Options.work, Options.output}:
        raise UsageError("Other timesteps go elsewhere: give --work and --output of their own.")
    runs: list[Run] = []
    for id in options.environments:
        budget = options.timesteps or BUDGETS.get(id)
        changes = Changes((f"num_timesteps={budget}",) if budget else ())
        runs += [Run.of(id, seed, options.work, changes) for seed in options.seeds]
    if not runs:
        raise UsageError("There is nothing to train: give --environments and --seeds.")
    how = learning.Options(work=options.work, results=options.work / "results", episodes=EPISODES)
    jobs = [job for job in (learning.make_job(run, how) for run in runs) if job is not None]
    if not Pool(options.jobs or usable_cores()).run(jobs):
        raise KeyboardInterrupt
    failed = [f"{one.name} failed: {last_line(one.log)}" for one in jobs if one.returncode != 0]
    if failed:
        raise measure.MeasurementError("\n".join(failed))
    rows: dict[str, Any] = {}
    for run in runs:
        result = json.loads((learning.destination(run, how.results) / "evaluation.json").read_bytes())
        blank = {"timesteps": result["timesteps"], "scores": [], "commits": []}
        row = rows.setdefault(run.experiment.environment.id, blank)
        row["scores"].append(result["mean"])
        row["commits"].append(result["commit"])
    for id, row in rows.items():
        row["random"] = random_score(id)
        row["solved"] = gymnasium.spec(id).reward_threshold
    return rows


def table(rows: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    lines = ["| environment | timesteps | random | seeds | solved |", "|---|---:|---:|---|---:|"]
    for id, row in rows.items():
        scores = ", ".join(number(score) for score in row["scores"])
        solved = "" if row["solved"] is None else number(row["solved"])
        lines.append(f"| {id} | {row['timesteps']:,} | {number(row['random'])} | {scores} | {solved} |")
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """A score with three or four figures."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}" if math.isfinite(value) else str(value)


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate and report; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/generic.py")
    try:
        rows = measure_all(options)
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = {"episodes": EPISODES, "rows": rows}
    replace_file(options.output, (json.dumps(data, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), table(rows).encode())
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
