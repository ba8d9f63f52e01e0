"""A friend that penalises large actions and reports the mean penalty."""

from __future__ import annotations

import numpy as np

from ppo_and_friends.friends import Friend, FriendContext
from ppo_and_friends.ppo.rollout import Rollout


class Effort(Friend):
    """Subtracts the squared action from the training reward; reported scores are unaffected."""

    def __init__(self, weight: float = 0.01) -> None:
        """Declare typed arguments: `--with my_friend:Effort:weight=0.1` is checked against them.

        Args:
            weight: Weight of the squared action, in units of reward.
        """
        super().__init__()
        self.weight = weight

    def setup(self, context: FriendContext) -> None:
        """Register state as a statistic: it is saved, and must be equal on all ranks."""
        super().setup(context)
        self.cost = self.statistic("cost", np.zeros(()))

    def after_rollout(self, rollout: Rollout) -> None:
        """Change the rewards. Each rank has its own environments, so the mean is taken over all ranks."""
        costs = self.weight * (rollout.actions.double() ** 2).sum(-1) * rollout.active
        rollout.rewards["extrinsic"][:] -= costs
        sums = np.array([float(costs.sum()), float(rollout.active.sum())])
        self.context.communicator.sum_(sums)
        self.cost.fill_(sums[0] / sums[1])

    def metrics(self) -> dict[str, float]:
        """Reported as Effort/cost."""
        return {"cost": float(self.cost)}
