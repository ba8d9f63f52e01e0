"""PPO's other objective: a penalty on the KL divergence instead of, or beside, the clipping."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.kl import SMALLEST_TARGET
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.settings.schedules import AnySchedule, Schedule, as_schedule


class KLPenalty(Friend):
    r"""Penalise the KL divergence of an update, with a coefficient that adapts towards a target.

    The loss gains :math:`\beta\,\mathrm{KL}(old \,\|\, new)`. Beta doubles after an update that ended above
    1.5 times the target, and halves after one that ended below the target / 1.5. For the penalty
    alone, without the clipping's effect, widen ``ppo.clip_range``.
    """

    source = "arXiv:1707.06347, section 4"
    reported = (
        Metric("coefficient", "Weight of the divergence in the next update (beta)"),
        Metric("loss", "Weighted KL divergence in the loss, mean over the update"),
    )

    coefficient: Tensor

    def __init__(
        self,
        target: AnySchedule = Schedule(0.01),
        start: float = 1.0,
        minimum: float = 1e-4,
        maximum: float = 1e4,
    ) -> None:
        """Choose the target and the coefficient's range.

        Args:
            target: KL(old || new) after an update, in nats, > 0; a schedule such as ``0.02:0.01``.
            start: The first beta, > 0.
            minimum: Least beta, > 0.
            maximum: Largest beta.
        """
        super().__init__()
        self.schedule = as_schedule(target)
        positive = all(value > 0.0 for value in self.schedule.extremes())
        if not (positive and 0.0 < minimum <= start <= maximum):
            raise UsageError(
                "KLPenalty needs target > 0 and 0 < minimum <= start <= maximum: "
                f"not target={target}, minimum={minimum}, start={start}, maximum={maximum}."
            )
        self.target, self.minimum, self.maximum = self.schedule.start, minimum, maximum
        self.coefficient = self.statistic("coefficient", np.array(start, np.float64))

    def before_update(self, controls: Controls) -> None:
        """Move the target."""
        self.target = self.schedule.value(controls.status, least=SMALLEST_TARGET)

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """Beta times the analytic divergence, which is differentiable."""
        kl = self.context.distribution.kl(minibatch.old_policy_parameters, minibatch.policy_parameters)
        return {"loss": minibatch.mean(kl) * float(self.coefficient)}

    def after_update(self, stats: dict[str, float]) -> None:
        """Adapt beta by the last epoch's divergence over all ranks."""
        beta = float(self.coefficient)
        if stats["kl"] > 1.5 * self.target:
            beta *= 2.0
        elif stats["kl"] < self.target / 1.5:
            beta /= 2.0
        self.coefficient.fill_(min(max(beta, self.minimum), self.maximum))

    def metrics(self) -> dict[str, float]:
        """Beta, as the next update will have it."""
        return {"coefficient": float(self.coefficient)}
