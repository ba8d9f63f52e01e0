"""Environments that hide what a policy without memory needs: a T-maze, and physics without velocities."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]

FORWARD, BACK, UP, DOWN = range(4)


class TMaze(gymnasium.Env[Array, np.int64]):
    """A corridor that ends in a junction; at its start a sign says which way to turn (Bakker 2001, NIPS 14).

    Actions: forward, back, up, down. Each step that doesn't lead forward costs 0.1, but for the turn at the
    junction, which ends the episode with 4, or with -0.1 if it was the wrong one. So 4 is the most; without
    memory it is 1.95. After three times the corridor's length the episode is truncated.
    """

    def __init__(self, length: int = 50) -> None:
        """Args: length: Steps from the start to the junction, >= 1."""
        self.length = length
        # The sign (up: 1, down: -1, beyond the start: 0), whether this is the start, and the junction.
        self.observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = spaces.Discrete(4)
        self._place, self._t, self._up = 0, 0, True

    def _observe(self) -> Array:
        at_start, at_junction = self._place == 0, self._place == self.length
        # Shown at the first step alone: to come back doesn't help.
        sign = (1.0 if self._up else -1.0) if self._t == 0 else 0.0
        return np.array([sign, at_start, at_junction], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        """Begin at the start of the corridor."""
        super().reset(seed=seed)
        self._place, self._t = 0, 0
        self._up = bool(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move."""
        self._t += 1
        turned = action in (UP, DOWN) and self._place == self.length
        before = self._place
        if action == FORWARD:
            self._place = min(self._place + 1, self.length)
        elif action == BACK:
            self._place = max(self._place - 1, 0)
        right = turned and (action == UP) == self._up
        reward = 4.0 if right else 0.0 if self._place > before else -0.1
        return self._observe(), reward, turned, self._t >= 3 * self.length and not turned, {}


class _Components(gymnasium.ObservationWrapper[Array, Any, Array]):
    """Shows some components of a vector alone."""

    kept: tuple[int, ...]

    def __init__(self, env: gymnasium.Env[Array, Any]) -> None:
        """Show the components ``kept``."""
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, spaces.Box)
        self._kept = list(self.kept)
        self.observation_space = spaces.Box(box.low[self._kept], box.high[self._kept], dtype=np.float32)

    def observation(self, observation: Array) -> Array:
        """[n] to [len(kept)]."""
        return observation[self._kept]


class CartPolePositions(_Components):
    """CartPole's position and angle, without their velocities."""

    kept = (0, 2)


class PendulumPositions(_Components):
    """Pendulum's angle, as cosine and sine, without its velocity."""

    kept = (0, 1)


class PendulumParts(gymnasium.ObservationWrapper[dict[str, Any], Any, Array]):
    """Pendulum's angle and its velocity under names of their own: ``positions`` [2] and ``velocity`` [1]."""

    def __init__(self, env: gymnasium.Env[Array, Any]) -> None:
        """Divide the observation of a Pendulum."""
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, spaces.Box)
        self.observation_space = spaces.Dict(
            positions=spaces.Box(box.low[:2], box.high[:2], dtype=np.float32),
            velocity=spaces.Box(box.low[2:], box.high[2:], dtype=np.float32),
        )

    def observation(self, observation: Array) -> dict[str, Any]:
        """[3] to both parts."""
        return {"positions": observation[:2], "velocity": observation[2:]}
