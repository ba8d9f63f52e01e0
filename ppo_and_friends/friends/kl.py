"""Friends that keep the policy's step, measured by its KL divergence, near a target."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.settings.schedules import AnySchedule, Schedule, Status, as_schedule

SMALLEST_TARGET = 1e-12
"""Of a KL divergence in nats, for schedules that ask a user's function."""


def kl_ahead(kl: float, previous: float) -> float:
    """The divergence after a gradient step, whose statistics are from before it.

    The divergence grows with the square of the distance, and the distance by as much as in the step before.

    Args:
        kl: KL(old || new) before the step, in nats.
        previous: The same, one gradient step earlier; 0 if there was none.

    Returns:
        At least ``kl``; NaN if that is.
    """
    distance, step_before = max(kl, 0.0) ** 0.5, max(previous, 0.0) ** 0.5
    return kl if distance <= step_before else (2.0 * distance - step_before) ** 2


class StepWatch:
    """Follows an update's divergence, at first 0, from one gradient step to the next."""

    def __init__(self, target: float) -> None:
        """Args: target: KL(old || new) in nats not to go beyond, > 0."""
        self.target, self.kl = target, 0.0

    def reached(self, kl: float) -> bool:
        """Whether the step that has this statistic ended beyond the target."""
        previous, self.kl = self.kl, kl
        # A divergence that isn't a number is too large.
        return not kl_ahead(kl, previous) <= self.target


class KLEarlyStop(Friend):
    """End the update at the gradient step at which its KL divergence, over all ranks, reaches the target."""

    source = "arXiv:2005.12729; Spinning Up"

    def __init__(
        self, target: AnySchedule = Schedule(0.02), decide: Literal["step", "epoch"] = "step"
    ) -> None:
        """Choose how far an update may go.

        Args:
            target: KL(old || new) in nats, > 0; a schedule such as ``0.02:0.01``.
            decide: After each gradient step, by the divergence it leads to, or after the first epoch whose
                mean exceeds the target.
        """
        super().__init__()
        self.schedule, self.decide = as_schedule(target), decide
        if not all(value > 0.0 for value in self.schedule.extremes()):
            raise UsageError(f"KLEarlyStop: target must be positive, not {target}.")
        self.target = self.schedule.start
        self._watch = StepWatch(self.target)

    def before_update(self, controls: Controls) -> None:
        """Start an update."""
        self.target = self.schedule.value(controls.status, least=SMALLEST_TARGET)
        self._watch = StepWatch(self.target)

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """Stop at the step that reaches the target."""
        if self.decide == "step" and self._watch.reached(stats["kl"]):
            controls.stop = True

    def wants_to_stop(self, stats: dict[str, float]) -> bool:
        """Whether the epoch's KL was above the target."""
        return self.decide == "epoch" and not stats["kl"] <= self.target  # NaN is too large


class AdaptiveLearningRate(Friend):
    """Adapt the learning rate so that each update ends at a KL between half and twice the target.

    Decided once an update (the default): the update ends at the gradient step by which the target is reached.
    If that is in the first epoch, the rate is divided; if half the target isn't reached, it is multiplied.

    Decided after each step, as in the source: divided above twice the target, multiplied below half of it.
    An update's first steps, from a KL of 0, then always raise the rate, and its last ones lower it.

    No schedule brings this rate to 0: a target that falls lets the policy settle at the end.
    """

    source = "arXiv:1707.02286, section 3; arXiv:2109.11978"

    rate: Tensor

    def __init__(
        self,
        target: AnySchedule = Schedule(0.01),
        factor: float = 1.5,
        minimum: float = 1e-5,
        maximum: float = 1e-2,
        decide: Literal["update", "step"] = "update",
    ) -> None:
        """Start at PPO's learning rate.

        Args:
            target: KL(old || new) in nats, > 0; a schedule such as ``0.02:0.01``.
            factor: By which the rate is multiplied or divided, > 1.
            minimum: Least learning rate, > 0.
            maximum: Largest learning rate.
            decide: Once an update, which ends at the target, or after each gradient step, by its KL.
        """
        super().__init__()
        self.schedule = as_schedule(target)
        if not (
            all(value > 0.0 for value in self.schedule.extremes())
            and factor > 1.0
            and 0.0 < minimum <= maximum
        ):
            raise UsageError(
                "AdaptiveLearningRate needs targets > 0, factor > 1 and 0 < minimum <= maximum: "
                f"not target={target}, factor={factor}, minimum={minimum}, "
                f"maximum={maximum}."
            )
        self.target = self.schedule.start
        self.factor, self.minimum, self.maximum = factor, minimum, maximum
        self.decide = decide
        self._watch = StepWatch(self.target)
        self._epoch, self._early = 0, False
        self.rate = self.statistic("rate", np.zeros(()))

    def setup(self, context: FriendContext) -> None:
        """Set the rate to PPO's learning rate."""
        super().setup(context)
        self.rate.fill_(context.experiment.ppo.learning_rate.value(Status(0.0), least=0.0))

    def before_update(self, controls: Controls) -> None:
        """Override the schedule's learning rate."""
        controls.learning_rate = float(self.rate)
        self.target = self.schedule.value(controls.status, least=SMALLEST_TARGET)
        self._watch = StepWatch(self.target)
        self._early = False

    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Keep track of the epoch."""
        self._epoch = epoch
        return False

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """Decide by the gradient step's KL over all ranks, or end the update at the target."""
        if self.decide == "step":
            controls.learning_rate = self._adapt(controls.learning_rate, stats["kl"])
        elif self._watch.reached(stats["kl"]):
            controls.stop, self._early = True, self._epoch == 0

    def after_update(self, stats: dict[str, float]) -> None:
        """Decide by how the update ended."""
        if self.decide == "update":
            self._adapt(float(self.rate), np.inf if self._early else self._watch.kl)

    def _adapt(self, rate: float, kl: float) -> float:
        """Divide the rate above twice the target, multiply it below half of it."""
        if not kl <= 2.0 * self.target:
            rate = max(rate / self.factor, self.minimum)
        elif kl < 0.5 * self.target:
            rate = min(rate * self.factor, self.maximum)
        self.rate.fill_(rate)
        return rate
