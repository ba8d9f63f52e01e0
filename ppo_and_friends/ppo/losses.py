"""PPO's loss as the paper has it: pure functions of tensors, differentiated by autograd.

In the order of eq. 9 of arXiv:1707.06347: probability ratio, clipped surrogate, value loss, entropy, total.
Shapes: N samples of a minibatch, P parameters of an action distribution, S reward streams.

With ``kernels="fast"`` training uses `networks.kernels.fused_loss.fused_ppo_loss` instead, which is this
loss with its gradients written out; tests hold the two equal.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.ppo.minibatches import Minibatch

STATISTICS = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
"""Names of the statistics that come with the loss, in order."""


def log_probability_ratio(log_probs: Tensor, old_log_probs: Tensor, active: Tensor) -> Tensor:
    r"""Log of the probability ratio (arXiv:1707.06347, section 3).

    .. math:: \log \rho_t(\theta) = \log \pi_\theta(a_t | s_t) - \log \pi_{\theta_{old}}(a_t | s_t)

    Args:
        log_probs: [N], of the actions taken, by the current policy.
        old_log_probs: [N], by the policy that took them.
        active: [N], 1 for experience, 0 for a sample that is excluded from training.

    Returns:
        [N]; 0 without a gradient for excluded samples. To weight these with 0 later would not be enough:
        the ratio of such a sample can overflow, and 0 times infinity is not a number.
    """
    return (log_probs - old_log_probs).masked_fill(active == 0, 0.0)


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    r"""Clipped surrogate objective, negated (arXiv:1707.06347, eq. 7).

    .. math:: -\min(\rho_t A_t,\; \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t)

    Args:
        log_ratio: [N], log of the new over the old probability of the action taken.
        advantages: [N].
        clip_range: Epsilon, > 0.

    Returns:
        [N], to be minimised. The gradient of a sample that is clipped is exactly 0, whatever its ratio.
    """
    ratio = log_ratio.detach().exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range) * advantages
    is_clipped = ratio * advantages > clipped
    # The ratio of a clipped sample may overflow. Autograd would multiply its gradient, 0, by that ratio
    # and get NaN, so the ratio to differentiate is computed for the other samples alone.
    unclipped = log_ratio.masked_fill(is_clipped, 0.0).exp() * advantages
    return -torch.where(is_clipped, clipped, unclipped)


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor, clip_range: float | None) -> Tensor:
    r"""Squared error of the critic (:math:`L^{VF}` of arXiv:1707.06347, eq. 9), optionally clipped.

    .. math::
        (V_\theta(s_t) - V_t^{targ})^2 \quad\text{or}\quad \max\big((V_\theta(s_t) - V_t^{targ})^2,\;
        (\mathrm{clip}(V_\theta(s_t), V_{old}(s_t) \pm \epsilon_V) - V_t^{targ})^2\big)

    The second is that of the authors' implementation (arXiv:2005.12729, section 2).

    Args:
        values: Predictions, of any shape.
        returns: Targets, of the same shape.
        old_values: Predictions when the rollout was collected, of the same shape.
        clip_range: Epsilon_V, the largest change of a prediction, > 0; None: unlimited.

    Returns:
        To be minimised, of the same shape. The gradient is 0 where the clipped error is the larger one.
    """
    unclipped_error = (values - returns).square()
    if clip_range is None:
        return unclipped_error
    clipped = values.clamp(old_values - clip_range, old_values + clip_range)
    return torch.maximum(unclipped_error, (clipped - returns).square())


def clip_fraction(log_ratio: Tensor, clip_range: float) -> Tensor:
    """[N], 1 where the probability ratio is outside the clip range, else 0."""
    return ((log_ratio.exp() - 1.0).abs() > clip_range).to(log_ratio.dtype)


def ppo_loss(
    distribution: Distribution,
    minibatch: Minibatch,
    *,
    clip_range: float,
    entropy_coefficient: float,
    value_coefficient: float,
    value_clip_range: float | None,
) -> tuple[Tensor, Tensor]:
    r"""The whole loss: the negated objective of arXiv:1707.06347, eq. 9.

    .. math:: L(\theta) = \hat{E}_t[-L_t^{CLIP}(\theta) + c_1 L_t^{VF}(\theta) - c_2 H[\pi_\theta](s_t)]

    Args:
        distribution: What the policy draws actions from.
        minibatch: With the current network's policy parameters [N, P] and value outputs [N, S] set.
        clip_range: Epsilon of eq. 7.
        entropy_coefficient: c2.
        value_coefficient: c1.
        value_clip_range: Largest change of a value prediction; None: unlimited.

    Returns:
        The loss [] to call ``backward`` on, and the statistics [5] by the names of ``STATISTICS``. Both are
        this rank's share: sums over its samples, divided by the number of active samples on all ranks.
    """
    parameters = minibatch.policy_parameters
    log_probs = distribution.log_prob(parameters, minibatch.actions)
    log_ratio = log_probability_ratio(log_probs, minibatch.old_log_probs, minibatch.active)
    surrogate = clipped_surrogate(log_ratio, minibatch.advantages, clip_range)
    errors = value_loss(
        minibatch.value_outputs, minibatch.value_targets, minibatch.old_value_outputs, value_clip_range
    )
    policy_loss = minibatch.mean(surrogate)
    critic_loss = minibatch.mean(errors.sum(-1))
    entropy = minibatch.mean(distribution.entropy(parameters))
    total = policy_loss + value_coefficient * critic_loss - entropy_coefficient * entropy
    with torch.no_grad():
        kl = minibatch.mean(distribution.kl(minibatch.old_policy_parameters, parameters))
        clipped = minibatch.mean(clip_fraction(log_ratio, clip_range))
    return total, torch.stack((policy_loss, critic_loss, entropy, kl, clipped)).detach()


class LossFunction(Protocol):
    """`ppo_loss`, or what computes the same faster."""

    def __call__(
        self,
        distribution: Distribution,
        minibatch: Minibatch,
        *,
        clip_range: float,
        entropy_coefficient: float,
        value_coefficient: float,
        value_clip_range: float | None,
    ) -> tuple[Tensor, Tensor]:
        """As `ppo_loss`."""
        ...


class GradientFunction(Protocol):
    """A network's loss and gradients without autograd."""

    def __call__(
        self,
        minibatch: Minibatch,
        *,
        clip_range: float,
        entropy_coefficient: float,
        value_coefficient: float,
        value_clip_range: float | None,
    ) -> Tensor:
        """Write the gradients of `ppo_loss` to the parameters' ``grad``; returns its statistics."""
        ...
