"""An environment: a point on a line that should come to rest at a goal. It needs no registration."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Reach(gymnasium.Env[Any, Any]):
    """The observation is the distance to the goal and the speed; the action is a force."""

    def __init__(self, steps: int = 50, render_mode: str | None = None) -> None:
        """Arguments are set by `--set environment.arguments.steps=100`."""
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.steps, self.render_mode = steps, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Place the point at random, at rest."""
        super().reset(seed=seed)
        self.place, self.speed, self.step_count = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply the force; the reward is the negative distance."""
        self.speed += 0.1 * float(action[0])
        self.place += 0.1 * self.speed
        self.step_count += 1
        return self._observation(), -abs(self.place), False, self.step_count >= self.steps, {}

    def _observation(self) -> Any:
        return np.array([self.place, self.speed], np.float32)


gymnasium.register("Reach-v0", Reach)
"""Not needed, but then `-e my_robot:Reach-v0` works as well."""


def long_reach() -> Reach:
    """A function that returns an environment works as well."""
    return Reach(steps=200)
