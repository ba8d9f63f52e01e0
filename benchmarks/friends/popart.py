"""PopArt: predictions before and after the statistics change, and rewards of very different sizes.

python -m benchmarks.friends.popart
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from benchmarks.friends.running import train, variant
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import Experiment, friend
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.factory import make_vector_env


def unscaled() -> Experiment:
    """Pendulum with its rewards as they are."""
    base = resolve("Pendulum")
    scalers = ("RewardNormalizer", "RewardScale")
    return replace(base, friends=tuple(each for each in base.friends if each.name not in scalers))


def largest_change(precision: Literal["float32", "float64"]) -> float:
    """Largest change of a prediction over 10 changes of the statistics, relative to the returns' size."""
    base = unscaled()
    experiment = replace(variant(base, friend("PopArt")), precision=precision)
    layout = Layout(experiment.environment.num_envs, 0, experiment.environment.num_envs)
    trainer = build_trainer(experiment, SoloCommunicator(), make_vector_env(experiment.environment, layout))
    largest = 0.0
    for _ in range(10):
        rollout = trainer.collect()
        observations = torch.from_numpy(rollout.observations).flatten(0, 1)

        def predict(observations: torch.Tensor = observations) -> np.ndarray:
            with torch.no_grad():
                outputs = trainer.network.values(observations).numpy()
            return trainer.friends.decode_values(outputs[:, 0].astype(np.float64), "extrinsic")

        before = predict()
        trainer.estimate(rollout)
        largest = max(largest, float(np.abs(predict() - before).max() / np.abs(before).max()))
        trainer.improve(rollout, trainer._scheduled_controls())
    return largest


def final_score(experiment: Experiment) -> float:
    last: list[float] = []

    def watch(_: Trainer, stats: dict[str, float]) -> None:
        last.append(stats["score_mean_100"])

    train(experiment, watch)
    return last[-1]


def main() -> None:
    precisions: tuple[Literal["float32", "float64"], ...] = ("float64", "float32")
    for precision in precisions:
        print(f"largest relative change of a prediction, {precision}: {largest_change(precision):.1e}")
    base = unscaled()
    base = replace(base, num_timesteps=120_000)
    print("\n| rewards times | PPO | PPO + PopArt | PPO + ValueNormalizer |")
    print("|---|---|---|---|")
    for factor in (0.01, 1.0, 100.0):
        scale = friend("RewardScale", factor=factor)
        scores = [
            final_score(variant(base, scale, *extra))
            for extra in ((), (friend("PopArt"),), (friend("ValueNormalizer"),))
        ]
        print(f"| {factor:g} | " + " | ".join(f"{score:.0f}" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
