"""A friend of your own: reward for small actions' sake. Run it, from the repository's root, with

mpirun -n 2 python main.py -e Pendulum --with mpi_examples.custom_friend:SmoothActions:weight=0.1
"""

from __future__ import annotations

import numpy as np

from ppo_and_friends.friends import Friend, FriendContext
from ppo_and_friends.ppo.rollout import Rollout


class SmoothActions(Friend):
    """Charge for each action's distance from the one before, and tell what it costs on average."""

    def __init__(self, weight: float = 0.01) -> None:
        """Args: weight: Of the squared distance, in units of reward."""
        super().__init__()
        self.weight = weight

    def setup(self, context: FriendContext) -> None:
        """What is to be remembered is a statistic: it is saved, and the same on all ranks."""
        super().setup(context)
        self.cost = self.statistic("cost", np.zeros(()))

    def after_rollout(self, rollout: Rollout) -> None:
        """Collectives belong here: every rank sums its own environments' costs."""
        changes = np.diff(rollout.actions.astype(float), axis=0) ** 2
        costs = self.weight * changes.sum(-1) * (rollout.valid[1:] & rollout.valid[:-1])
        rollout.rewards["extrinsic"][1:] -= costs
        sums = np.array([costs.sum(), rollout.valid.sum()])
        self.context.communicator.sum_(sums)
        self.cost.fill_(sums[0] / sums[1])

    def metrics(self) -> dict[str, float]:
        """Shown with the others, as SmoothActions/cost."""
        return {"cost": float(self.cost)}
