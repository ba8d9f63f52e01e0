"""A chain of 60 states with one reward at its far end, which plain PPO does not find.

Each action means "left" in one half of the states and "right" in the other, at random, so that no constant
policy gets far; a random walk needs about 60^2 steps, an episode has 120.

    python -m benchmarks.friends.chain [seeds]
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from benchmarks.friends.running import train, variant
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    FriendSpec,
    PPOSettings,
    friend,
)

LENGTH, LIMIT = 60, 120


class Chain(gymnasium.Env[Any, Any]):
    """Observes its place as one-hot; 1 for the last place, which ends the episode."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (LENGTH,))
        self.action_space = spaces.Discrete(2)
        self._right = np.random.default_rng(7).integers(2, size=LENGTH)

    def _observe(self) -> Any:
        return np.eye(LENGTH, dtype=np.float32)[self._place]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = self._t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        self._place = max(0, self._place + (1 if action == self._right[self._place] else -1))
        found = self._place == LENGTH - 1
        return self._observe(), float(found), found, self._t >= LIMIT and not found, {}


BASE = Experiment(
    name="Chain",
    environment=EnvironmentSettings(id="Chain-v0", num_envs=8, backend="gymnasium", factory=Chain),
    num_timesteps=200_000,
    ppo=PPOSettings(
        rollout_timesteps=2048,
        minibatch_size=256,
        epochs=4,
        learning_rate=1e-3,
        gamma=0.99,  # type: ignore[arg-type]
    ),
    friends=(friend("AdvantageNormalizer"),),
)
VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "PPO": (),
    "PPO + ICM": (friend("ICM"),),
    "PPO + RND": (friend("RND", weight=0.5, lr=1e-3),),
}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| variant | seed | first found at | success in the last 100 episodes |")
    print("|---|---|---|---|")
    for name, friends in VARIANTS.items():
        for seed in range(1, seeds + 1):
            found: list[int] = []
            last: list[float] = []

            def watch(
                trainer: Trainer,
                stats: dict[str, float],
                found: list[int] = found,
                last: list[float] = last,
            ) -> None:
                last.append(stats["score_mean_100"])
                if stats["score_max"] > 0.0:
                    found.append(trainer.timesteps)

            train(variant(BASE, *friends, seed=seed), watch)
            when = f"{found[0]:,}" if found else "never"
            print(f"| {name} | {seed} | {when} | {last[-1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
