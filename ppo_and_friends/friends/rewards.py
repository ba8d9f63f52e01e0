"""Friends that change the size of the rewards that are learned from."""

from __future__ import annotations

import math

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.rollout import Rollout


class RewardScale(Friend):
    """Multiply training rewards by a constant; reported returns are unaffected."""

    source = "arXiv:1709.06560, section 4.2"

    def __init__(self, factor: float = 0.1) -> None:
        """Args: factor: Finite and > 0."""
        super().__init__()
        if not (factor > 0.0 and math.isfinite(factor)):
            raise UsageError(f"RewardScale: factor must be positive and finite, not {factor}.")
        self.factor = factor

    def after_rollout(self, rollout: Rollout) -> None:
        """Scale the extrinsic rewards."""
        rollout.rewards["extrinsic"] = rollout.rewards["extrinsic"] * self.factor
