"""Friends that keep the policy's step, measured by its KL divergence, near a target."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Controls, Friend, FriendContext


class KLEarlyStop(Friend):
    """End the update after the first epoch whose mean KL, over all ranks, exceeds the target."""

    source = "arXiv:2005.12729; Spinning Up"

    def __init__(self, target: float = 0.02) -> None:
        """Args: target: KL(old || new) in nats, > 0."""
        super().__init__()
        if target <= 0.0:
            raise UsageError(f"KLEarlyStop: target must be positive, not {target}.")
        self.target = target

    def wants_to_stop(self, stats: dict[str, float]) -> bool:
        """Whether the epoch's KL was above the target."""
        return stats["kl"] > self.target


class AdaptiveLearningRate(Friend):
    """Step size that keeps each gradient step's KL between half and twice the target.

    An update's first gradient steps, from a KL of 0, always raise the rate, and its last ones lower it, so
    that it ends near twice the target. Decided once an update, it ends within the band.
    """

    source = "arXiv:1707.02286, section 3; arXiv:2109.11978"

    rate: Tensor

    def __init__(
        self,
        target: float = 0.01,
        factor: float = 1.5,
        minimum: float = 1e-5,
        maximum: float = 1e-2,
        decide: Literal["step", "update"] = "step",
    ) -> None:
        """Start at PPO's learning rate.

        Args:
            target: KL(old || new) in nats, > 0.
            factor: By which the rate is multiplied or divided, > 1.
            minimum: Least learning rate, > 0.
            maximum: Largest learning rate.
            decide: After each gradient step, by its KL, or after each update, by its last epoch's.
        """
        super().__init__()
        if not (target > 0.0 and factor > 1.0 and 0.0 < minimum <= maximum):
            raise UsageError(
                "AdaptiveLearningRate needs target > 0, factor > 1 and 0 < minimum <= maximum: "
                f"not target={target}, factor={factor}, minimum={minimum}, maximum={maximum}."
            )
        self.target, self.factor, self.minimum, self.maximum = target, factor, minimum, maximum
        self.decide = decide
        self.add_statistic("rate", np.zeros(()))

    def setup(self, context: FriendContext) -> None:
        """Start at PPO's learning rate."""
        super().setup(context)
        self.rate.fill_(context.experiment.ppo.learning_rate.start)

    def before_update(self, controls: Controls) -> None:
        """Take the place of the schedule."""
        controls.learning_rate = float(self.rate)

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """Decide by the gradient step's KL over all ranks."""
        if self.decide == "step":
            controls.learning_rate = self._adapt(controls.learning_rate, stats["kl"])

    def after_update(self, stats: dict[str, float]) -> None:
        """Decide by the last epoch's KL over all ranks."""
        if self.decide == "update":
            self._adapt(float(self.rate), stats["kl"])

    def _adapt(self, rate: float, kl: float) -> float:
        """Divide the rate above twice the target, multiply it below half of it."""
        if not kl <= 2.0 * self.target:
            rate = max(rate / self.factor, self.minimum)
        elif kl < 0.5 * self.target:
            rate = min(rate * self.factor, self.maximum)
        self.rate.fill_(rate)
        return rate
