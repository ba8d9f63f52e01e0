"""PPO's loss and its derivatives: pure functions, one value a sample, and the minibatch's mean of them.

Derivatives are written out, since autograd's many small steps would take longer than the network's
when minibatches are small (docs/performance.md). ``tests/test_losses.py`` holds them against autograd's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.kernels.slopes import slopes
from ppo_and_friends.ppo.minibatches import Minibatch


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    r"""Negated clipped surrogate objective (arXiv:1707.06347, eq. 7).

    .. math:: -\min(\rho A,\; \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A)

    Args:
        log_ratio: [N], log of the new over the old probability of the action taken.
        advantages: [N].
        clip: Epsilon, > 0.

    Returns:
        [N], to be minimised, and [N], its derivative by ``log_ratio``: 0 where it is held.
    """
    ratio = log_ratio.exp()
    free, held = ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages
    return -torch.minimum(free, held), -free * (free <= held)


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    r"""Squared error of the critic (arXiv:1707.06347, eq. 9), optionally clipped.

    With a clip, the larger of the plain error and that of the prediction held within ``clip`` of
    the old one, as in the authors' implementation (arXiv:2005.12729, section 2).

    Args:
        values: New predictions, of any shape.
        returns: Targets, of the same shape.
        old_values: Predictions when the rollout was collected.
        clip: Largest change, > 0; None: unlimited.

    Returns:
        What is to be minimised, and its derivative by ``values``: 0 where the held error is larger.
    """
    gap = values - returns
    error, slope = gap.square(), 2.0 * gap
    if clip is None:
        return error, slope
    # Exactly the prediction itself within the range, so that the errors are equal there.
    held = values.clamp(old_values - clip, old_values + clip)
    held_error = (held - returns).square()
    return torch.maximum(error, held_error), slope * (error >= held_error)


def clip_fraction(log_ratio: Tensor, clip: float) -> Tensor:
    """[N], 1 where the probability ratio is outside the clip range, else 0."""
    return ((log_ratio.exp() - 1.0).abs() > clip).to(log_ratio.dtype)


STATISTICS = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
"""What ``PPOLoss.statistics`` holds, in this order."""


@dataclass(frozen=True)
class PPOLoss:
    """This rank's share of a minibatch's loss: means over the valid rows of all ranks."""

    total: Tensor
    """[], to be minimised; its backward pass begins with the derivatives that are written out."""

    statistics: Tensor
    """[5], by the names of ``STATISTICS``."""


class _Known(torch.autograd.Function):
    """A number whose derivatives by the network's two ends are known.

    To give these to ``torch.autograd.backward`` instead would make PyTorch load sympy: 30 MB, and a second.
    """

    @staticmethod
    def forward(
        ctx: Any,
        parameters: Tensor,
        outputs: Tensor,
        value: Tensor,
        by_parameters: Tensor,
        by_outputs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(by_parameters, by_outputs)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_parameters, by_outputs = ctx.saved_tensors
        return gradient * by_parameters, gradient * by_outputs, None, None, None


def ppo_loss(
    distribution: Distribution,
    minibatch: Minibatch,
    *,
    clip_range: float,
    entropy_coefficient: float,
    value_coefficient: float,
    value_clip_range: float | None,
) -> PPOLoss:
    """The surrogate, plus the weighted value loss, less the weighted entropy (arXiv:1707.06347, eq. 9).

    Args:
        distribution: What the policy draws from.
        minibatch: With the current network's parameters and outputs set.
        clip_range: Epsilon of eq. 7.
        entropy_coefficient: c2 of eq. 9.
        value_coefficient: c1 of eq. 9.
        value_clip_range: Largest change of a prediction; None: unlimited.
    """
    ends = minibatch.policy_parameters, minibatch.value_outputs
    parameters, outputs = (end.detach() for end in ends)
    policy = slopes(distribution, parameters, minibatch.actions)
    log_ratio = policy.log_prob - minibatch.old_log_probs
    surrogate, by_log_ratio = clipped_surrogate(log_ratio, minibatch.advantages, clip_range)
    errors, by_values = value_loss(
        outputs, minibatch.value_targets, minibatch.old_value_outputs, value_clip_range
    )
    divergence = distribution.kl(minibatch.old_policy_parameters, parameters)
    clipped = clip_fraction(log_ratio, clip_range)
    weights = minibatch.valid / minibatch.count
    samples = torch.stack((surrogate, errors.sum(-1), policy.entropy, divergence, clipped))
    statistics = samples @ weights
    column = weights.unsqueeze(-1)
    by_parameters = policy.of_log_prob * (by_log_ratio * weights).unsqueeze(-1)
    if entropy_coefficient:
        by_parameters -= policy.of_entropy * (entropy_coefficient * column)
    value = statistics[0] + value_coefficient * statistics[1] - entropy_coefficient * statistics[2]
    by_outputs = by_values * (value_coefficient * column)
    total: Tensor = _Known.apply(*ends, value, by_parameters, by_outputs)  # type: ignore[no-untyped-call]
    return PPOLoss(total, statistics)
