"""Friends that keep bootstrapped values, value errors and gradients within a range."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]


class BootstrapClip(Friend):
    """Clip the bootstrap values at the end of a rollout and of a truncated episode.

    An untrained critic can predict any number there, and it enters every return before it. All
    other values stay as they are.
    """

    source = "PPO and Friends"

    seen: Tensor

    def __init__(
        self,
        range: Literal["returns", "rewards", "fixed"] = "returns",
        low: float = -100.0,
        high: float = 100.0,
    ) -> None:
        """Choose the range.

        Args:
            range: ``rewards``: from the least to the largest reward seen so far; ``returns``: what
                sums of such rewards can be, discounted; ``fixed``: from low to high.
            low: With ``fixed``, in the units of rewards.
            high: With ``fixed``.
        """
        super().__init__()
        if low >= high:
            raise UsageError(f"BootstrapClip: low must be below high, not {low} and {high}.")
        self.range, self.low, self.high = range, low, high
        # The negated least and the largest reward, so that one maximum merges both.
        self.seen = self.statistic("seen", np.full(2, -np.inf))

    def after_rollout(self, rollout: Rollout) -> None:
        """Take in the rewards of all ranks, and find the values that are bootstrapped from."""
        rewards = rollout.rewards["extrinsic"][rollout.active].double().cpu().numpy()
        seen = np.array([-rewards.min(), rewards.max()]) if len(rewards) else np.full(2, -np.inf)
        self.context.communicator.max_(seen)
        self.seen.numpy()[:] = np.maximum(self.seen.numpy(), seen)
        # The row after a truncation holds the final observation, whose value has no other use.
        self._rows = torch.cat((torch.zeros_like(rollout.truncated[:1]), rollout.truncated))
        self._rows[-1] = True

    def bounds(self) -> tuple[float, float]:
        """Least and largest value to bootstrap from."""
        if self.range == "fixed":
            return self.low, self.high
        low, high = -self.seen[0].item(), self.seen[1].item()
        if self.range == "returns":
            # An episode may end at any time, so that 0 is always possible.
            horizon = 1.0 / max(1.0 - self.context.experiment.ppo.gamma, 1e-6)
            low, high = min(low, 0.0) * horizon, max(high, 0.0) * horizon
        return low, high

    def adjust_values(self, values: Tensor, reward_stream: str) -> Tensor:
        """Clip the environment's values in those rows."""
        if reward_stream != "extrinsic":
            return values
        low, high = self.bounds()
        return torch.where(self._rows, values.clamp(low, high), values)


class ValueErrorClip(Friend):
    """Clip value targets to within a distance of the predictions made at collection time.

    This bounds the value loss and its gradient at the start of an update. (PPO's own clipping
    of the predictions is the setting ``ppo.value_clip_range``.)
    """

    source = "doi:10.1038/nature14236"

    def __init__(self, limit: float = 1.0) -> None:
        """Args: limit: Largest error, in the critic's units, > 0."""
        super().__init__()
        if limit <= 0.0:
            raise UsageError(f"ValueErrorClip: limit must be positive, not {limit}.")
        self.limit = limit

    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Clip the targets."""
        old = minibatch.old_value_outputs
        minibatch.value_targets = old + (minibatch.value_targets - old).clamp(-self.limit, self.limit)


class GradientClip(Friend):
    """Clip each component of the gradient to [-limit, limit], before the clipping by its norm."""

    source = "arXiv:1211.5063, section 3.2"

    def __init__(self, limit: float = 1.0) -> None:
        """Args: limit: Largest absolute value, > 0."""
        super().__init__()
        if limit <= 0.0:
            raise UsageError(f"GradientClip: limit must be positive, not {limit}.")
        self.limit = limit

    def before_step(self, gradients: Tensor) -> None:
        """Clip in place; what isn't finite stays so, and the step is skipped."""
        infinite = torch.isinf(gradients)
        gradients.clamp_(-self.limit, self.limit).masked_fill_(infinite, torch.nan)
