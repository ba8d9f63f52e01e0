"""Friends that normalise rewards and advantages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.moments import check_epsilon, global_moments, merge_moments
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.ppo.estimators import discounted_sums
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout

# With the one that experiments saved as code may look for here.
__all__ = ["AdvantageNormalizer", "ObservationNormalizer", "RewardNormalizer"]

Array = NDArray[Any]

REWARD_ROUNDING = 4.0 * float(np.finfo(np.float32).eps)
"""Of rewards, relative to their size: a running sum that varied by less is taken for constant."""


class RewardNormalizer(Friend):
    """Divide rewards by the standard deviation of their running discounted sum.

    The mean is left alone, since shifting rewards changes what is optimal when episodes end.
    """

    source = "arXiv:2005.12729, section 2"
    reported = (Metric("scale", "Factor by which rewards are multiplied"),)

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, gamma: float | None = None, epsilon: float = 1e-8) -> None:
        """Start with no statistics.

        Args:
            gamma: Of the running sum, in [0, 1]; None: PPO's.
            epsilon: Added to the variance, >= 0.
        """
        super().__init__()
        self.gamma = gamma
        check_epsilon("RewardNormalizer", epsilon)
        self.epsilon = epsilon
        self.count = self.statistic("count", np.zeros(()))
        self.mean = self.statistic("mean", np.zeros(()))
        self.variance = self.statistic("variance", np.ones(()))

    def setup(self, context: FriendContext) -> None:
        """Start the running sums of this rank's environments at 0."""
        super().setup(context)
        if self.gamma is None:
            self.gamma = context.experiment.ppo.gamma
        self._running: Array = np.zeros(context.layout.local)

    def rows(self) -> dict[str, Array]:
        """The running sums."""
        return {"running": self._running}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on with them."""
        self._running = rows["running"].copy()

    def after_rollout(self, rollout: Rollout) -> None:
        """Merge the statistics over the ranks, then scale the rollout's rewards."""
        ends = rollout.terminated | rollout.truncated
        rollout.rewards["extrinsic"] = self.scaled(rollout.rewards["extrinsic"], ends, rollout)

    def scaled(self, rewards: Tensor, ends: Tensor, rollout: Rollout) -> Tensor:
        """Take a rollout's rewards into the statistics and scale them. Two collectives.

        Args:
            rewards: [T, B].
            ends: [T, B] bool, where the running sum starts afresh.
            rollout: That they belong to.

        Returns:
            [T, B], of the same dtype.
        """
        assert self.gamma is not None
        if rollout.restarted:
            self._running = np.zeros_like(self._running)
        over = host_array(ends)
        sums = discounted_sums(host_array(rewards), over, self._running, gamma=self.gamma)
        self._running = np.where(over[-1], 0.0, sums[-1])
        merged = merge_moments(
            self.count.item(),
            self.mean.numpy(),
            self.variance.numpy(),
            *global_moments(sums, rollout.active, self.context.communicator),
        )
        for buffer, value in zip((self.count, self.mean, self.variance), merged, strict=True):
            buffer.numpy()[...] = value
        return rewards * self.scale

    @property
    def scale(self) -> float:
        """What rewards are multiplied by; 1 while the sums have not varied but for rounding."""
        variance = self.variance.item()
        rounding = 1e-12 + REWARD_ROUNDING * abs(self.mean.item())
        return float(1.0 / np.sqrt(variance + self.epsilon)) if np.sqrt(variance) > rounding else 1.0

    def metrics(self) -> dict[str, float]:
        """The factor that rewards are multiplied by."""
        return {"scale": self.scale}


class AdvantageNormalizer(Friend):
    """Shift and scale advantages to mean 0 and standard deviation 1 over all ranks."""

    source = "arXiv:2005.12729, section 2"

    def __init__(self, epsilon: float = 1e-8, per_minibatch: bool = False) -> None:
        """Choose over what to normalise.

        Args:
            epsilon: Added to the standard deviation, >= 0.
            per_minibatch: Over each minibatch; False: over the rollout, which needs fewer collectives.
        """
        super().__init__()
        check_epsilon("AdvantageNormalizer", epsilon)
        self.epsilon = epsilon
        self.per_minibatch = per_minibatch

    def after_estimation(self, rollout: Rollout) -> None:
        """Normalise over the rollout's active samples of all ranks."""
        if self.per_minibatch:
            return
        _, mean, variance = global_moments(rollout.advantages, rollout.active, self.context.communicator)
        advantages = rollout.advantages
        normalised = (advantages.double() - float(mean)) / float(np.sqrt(variance) + self.epsilon)
        rollout.advantages = normalised.to(advantages.dtype)

    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Normalise over the minibatch's active samples of all ranks."""
        if not self.per_minibatch:
            return
        # In NumPy, whose operations on a small minibatch take a fifth of PyTorch's time.
        advantages = host_array(minibatch.advantages).astype(np.float64)
        weights = host_array(minibatch.active).astype(np.float64)
        weighted = advantages * weights
        sums = np.array([weighted.sum(), (weighted * advantages).sum()])
        self.context.communicator.sum_(sums)
        mean, square = sums / minibatch.count
        std = np.sqrt(max(square - mean**2, 0.0))
        normalised = torch.from_numpy((advantages - mean) / (std + self.epsilon))
        minibatch.advantages = normalised.to(minibatch.advantages)
