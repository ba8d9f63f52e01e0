"""Repeating each action for several steps."""

from __future__ import annotations

from typing import Any

import gymnasium


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Repeats each action, sums the rewards, and stops early if the episode ends."""

    def __init__(self, env: gymnasium.Env[Any, Any], repeat: int) -> None:
        """Repeat each action ``repeat`` times."""
        super().__init__(env)
        self.repeat = repeat

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step up to ``repeat`` times; return the last observation and info, and the sum of the rewards."""
        total = 0.0
        for _ in range(self.repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info
