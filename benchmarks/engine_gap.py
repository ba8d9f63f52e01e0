"""The same policy on the training engine and on the canonical environment: do their scores differ?

``python benchmarks/engine_gap.py [RESULTS]``: for every run evaluated by ``learning.py`` whose policy is
shipped (or kept in its work folder), plays whole episodes on the vector engine, takes the scores on the
canonical environment from the results, and prints both means with the gap in standard errors.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.targets import TARGETS
from ppo_and_friends import load_policy
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.vector.factory import make_vector_env

SEED = 2_000_000
MAX_STEPS = 20_000


@dataclass(frozen=True)
class Options:
    """Compare the training engine with the canonical environment."""

    work: Path = Path(".learning")
    """Where ``learning.py`` keeps its runs."""

    results: Path = Path("results")
    """Where it keeps its evaluations."""

    seed: int = 1
    """Which training seed's policy."""

    envs: int = 50
    """Environments on the engine: the first whole episode, or several, of each."""


def engine_scores(policy: TrainedPolicy, envs: int, episodes: int) -> tuple[str, list[float]]:
    """Scores of whole episodes on the engine, equally many of each environment.

    As many of each, since the first to finish would be the short ones.
    """
    vector = make_vector_env(policy.experiment.environment, Layout(envs, 0, envs))
    each = -(-episodes // envs)
    found: list[list[float]] = [[] for _ in range(envs)]
    running = np.zeros(envs)
    acting = policy.agent.policy()
    try:
        observations = vector.reset(SEED)
        for _ in range(MAX_STEPS):
            step = vector.step(acting.act(observations))
            running += step.scores
            for env in np.flatnonzero(step.finished):
                found[env].append(running[env])
                running[env] = 0.0
            observations = step.observations
            if all(len(scores) >= each for scores in found):
                break
    finally:
        vector.close()
    return vector.backend, [score for scores in found for score in scores[:each]]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    print("| environment | engine | on the engine | canonical | gap, standard errors |")
    print("|---|---|---|---|---|")
    for name in TARGETS:
        record = options.results / name / f"seed-{options.seed}" / "evaluation.json"
        run = options.work / f"seed-{options.seed}" / name
        if not (record.exists() and run.exists()):
            continue
        canonical = json.loads(record.read_text())["scores"]
        engine, scores = engine_scores(load_policy(run), options.envs, len(canonical))
        error = np.sqrt(np.var(scores) / len(scores) + np.var(canonical) / len(canonical))
        gap = (np.mean(scores) - np.mean(canonical)) / error if error > 0.0 else 0.0
        print(
            f"| {name} | {engine} | {np.mean(scores):.1f} | {np.mean(canonical):.1f} | {gap:+.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
