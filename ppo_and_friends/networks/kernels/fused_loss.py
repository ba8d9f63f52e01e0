"""PPO's loss as one step for autograd, with its gradients written out.

It replaces ``ppo/losses.py``, which defines what is computed. There autograd records thirty small operations,
which with small minibatches takes longer than the network's own (docs/performance.md).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.kernels.distribution_gradients import distribution_gradients


class LossInputs(Protocol):
    """What the loss reads of a minibatch of N samples: P distribution parameters, S reward streams."""

    @property
    def policy_parameters(self) -> Tensor:
        """[N, P], the current network's; the loss is differentiated with respect to them."""

    @property
    def value_outputs(self) -> Tensor:
        """[N, S], the current network's; the loss is differentiated with respect to them."""

    @property
    def actions(self) -> Tensor:
        """[N, A]."""

    @property
    def old_log_probs(self) -> Tensor:
        """[N]."""

    @property
    def old_policy_parameters(self) -> Tensor:
        """[N, P]."""

    @property
    def advantages(self) -> Tensor:
        """[N]."""

    @property
    def value_targets(self) -> Tensor:
        """[N, S]."""

    @property
    def old_value_outputs(self) -> Tensor:
        """[N, S]."""

    @property
    def active(self) -> Tensor:
        """[N] float: 1 for experience, 0 for a sample that is excluded."""

    @property
    def count(self) -> float:
        """Active samples on all ranks."""


def surrogate_and_gradient(ratio: Tensor, advantages: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    r"""`ppo.losses.clipped_surrogate` and its gradient.

    .. math:: \partial (-\rho A) / \partial \log \rho = -\rho A

    Args:
        ratio: [N], the new over the old probability of the action taken.
        advantages: [N].
        clip_range: Epsilon, > 0.

    Returns:
        [N], and [N], its gradient with respect to the *log* of the ratio: exactly 0 where it is clipped.
    """
    unclipped, clipped = ratio * advantages, ratio.clamp(1.0 - clip_range, 1.0 + clip_range) * advantages
    # Filled, not multiplied with 0: a clipped ratio may be infinite. What is not a number stays so.
    gradient = unclipped.masked_fill(unclipped > clipped, 0.0).neg_()
    return torch.minimum(unclipped, clipped).neg_(), gradient


def value_loss_and_gradient(
    values: Tensor, returns: Tensor, old_values: Tensor, clip_range: float | None
) -> tuple[Tensor, Tensor]:
    """`ppo.losses.value_loss` and its gradient with respect to ``values``, both of their shape."""
    difference = values - returns
    unclipped_error, gradient = difference.square(), 2.0 * difference
    if clip_range is None:
        return unclipped_error, gradient
    # Within the range it is exactly the prediction itself, so that the errors are equal there.
    clipped = values.clamp(old_values - clip_range, old_values + clip_range)
    clipped_error = (clipped - returns).square()
    gradient = gradient.masked_fill(unclipped_error < clipped_error, 0.0)
    return torch.maximum(unclipped_error, clipped_error), gradient


class _PrecomputedGradients(torch.autograd.Function):
    """A scalar whose gradients with respect to the network's outputs were computed along with it.

    To give these to ``torch.autograd.backward`` instead would make PyTorch load sympy: 30 MB, and a second.
    """

    @staticmethod
    def forward(
        ctx: Any,
        parameters: Tensor,
        outputs: Tensor,
        value: Tensor,
        parameters_gradient: Tensor,
        outputs_gradient: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(parameters_gradient, outputs_gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        parameters_gradient, outputs_gradient = ctx.saved_tensors
        return gradient * parameters_gradient, gradient * outputs_gradient, None, None, None


def fused_ppo_loss(
    distribution: Distribution,
    minibatch: LossInputs,
    *,
    clip_range: float,
    entropy_coefficient: float,
    value_coefficient: float,
    value_clip_range: float | None,
) -> tuple[Tensor, Tensor]:
    """`ppo.losses.ppo_loss`: the same arguments, the same loss [] and statistics [5].

    Second derivatives aren't available; requesting them raises an error.
    """
    network_outputs = minibatch.policy_parameters, minibatch.value_outputs
    parameters, values = (each.detach() for each in network_outputs)
    policy = distribution_gradients(distribution, parameters, minibatch.actions)
    # Excluded samples get the ratio 1: that of another one may overflow, and 0 times infinity is NaN.
    log_ratio = (policy.log_prob - minibatch.old_log_probs).masked_fill_(minibatch.active == 0.0, 0.0)
    ratio = log_ratio.exp_()
    surrogate, log_ratio_gradient = surrogate_and_gradient(ratio, minibatch.advantages, clip_range)
    errors, values_gradient = value_loss_and_gradient(
        values, minibatch.value_targets, minibatch.old_value_outputs, value_clip_range
    )
    kl = distribution.kl(minibatch.old_policy_parameters, parameters)
    clipped = ((ratio - 1.0).abs_() > clip_range).to(ratio.dtype)
    weights = minibatch.active / minibatch.count
    samples = torch.stack((surrogate, errors.sum(-1), policy.entropy, kl, clipped))
    statistics = samples @ weights
    column = weights.unsqueeze(-1)
    parameters_gradient = policy.log_prob_gradient * (log_ratio_gradient * weights).unsqueeze(-1)
    if entropy_coefficient:
        parameters_gradient -= policy.entropy_gradient * (entropy_coefficient * column)
    outputs_gradient = values_gradient * (value_coefficient * column)
    policy_loss, critic_loss, entropy, *_ = statistics.unbind()
    value = policy_loss.add(critic_loss, alpha=value_coefficient).sub_(entropy, alpha=entropy_coefficient)
    total: Tensor = _PrecomputedGradients.apply(  # type: ignore[no-untyped-call]
        *network_outputs, value, parameters_gradient, outputs_gradient
    )
    return total, statistics
