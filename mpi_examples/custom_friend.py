"""A custom friend that penalises changes of the action. Run it from the repository's root with

mpirun -n 2 python main.py -e Pendulum --with mpi_examples.custom_friend:SmoothActions:weight=0.1
"""

from __future__ import annotations

import numpy as np

from ppo_and_friends.friends import Friend, FriendContext
from ppo_and_friends.ppo.rollout import Rollout


class SmoothActions(Friend):
    """Subtracts ``weight * |a_t - a_(t-1)|^2`` from each reward, and reports the mean of this cost."""

    def __init__(self, weight: float = 0.01) -> None:
        """Args: weight: Of the squared difference, in units of reward, at least 0."""
        super().__init__()
        self.weight = weight

    def setup(self, context: FriendContext) -> None:
        """Register the mean cost as a statistic, which is saved in checkpoints and equal on all ranks."""
        super().setup(context)
        self.cost = self.statistic("cost", np.zeros(()))

    def after_rollout(self, rollout: Rollout) -> None:
        """Subtract the costs, and average them over all ranks (collectives are allowed in this hook)."""
        changes = rollout.actions.double().diff(dim=0) ** 2
        costs = self.weight * changes.sum(-1) * (rollout.active[1:] & rollout.active[:-1])
        rollout.rewards["extrinsic"][1:] -= costs
        sums = np.array([float(costs.sum()), float(rollout.active.sum())])
        self.context.communicator.sum_(sums)
        self.cost.fill_(sums[0] / sums[1])

    def metrics(self) -> dict[str, float]:
        """Report the mean cost, as ``SmoothActions/cost``."""
        return {"cost": float(self.cost)}
