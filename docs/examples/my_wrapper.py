"""A wrapper: any callable that takes an environment and returns one."""

from __future__ import annotations

from typing import Any

import gymnasium


class CheapEnergy(gymnasium.RewardWrapper[Any, Any]):
    """Changes the unit of the reward."""

    def reward(self, reward: Any) -> float:
        """Multiply it by ten."""
        return 10.0 * float(reward)
