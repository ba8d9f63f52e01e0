"""Soft against hard resets where the interesting states lie beyond one rollout's share of a rank.

    python -m benchmarks.friends.resets

A corridor whose reward lies 200 steps away; a rollout of 1024 timesteps over 8, 4 or 2 environments is
128, 256 or 512 steps long.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from benchmarks.friends.running import train
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, PPOSettings, friend

LENGTH = 200


class Corridor(gymnasium.Env[Any, Any]):
    """Moves on at every step, whatever is done; a reward after LENGTH steps, where it ends."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (1,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        over = self._t == LENGTH
        return np.array([self._t / LENGTH], np.float32), float(over), over, False, {}


def main() -> None:
    print("| environments | steps a rollout | resets | episodes finished in 20 rollouts |")
    print("|---|---|---|---|")
    for envs in (8, 4, 2):
        for resets in ((), (friend("HardReset"),)):
            finished: list[float] = []

            def watch(_: Trainer, stats: dict[str, float], finished: list[float] = finished) -> None:
                finished.append(stats["episodes"])

            experiment = Experiment(
                name="Corridor",
                environment=EnvironmentSettings(
                    id="Corridor-v0", num_envs=envs, backend="gymnasium", factory=Corridor
                ),
                num_timesteps=20 * 1024 - 512,
                ppo=PPOSettings(rollout_timesteps=1024, minibatch_size=256, epochs=1),
                friends=resets,
            )
            train(experiment, watch)
            print(
                f"| {envs} | {1024 // envs} | {resets[0].name if resets else 'none'} | {sum(finished):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
