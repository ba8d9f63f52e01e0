"""Log probabilities and entropies together with their gradients, in closed form.

Autograd would need some thirty small steps for them: with minibatches of 64 samples that takes longer
than the network itself (docs/performance.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian


@dataclass(frozen=True)
class DistributionGradients:
    """Of N distributions with P parameters each."""

    log_prob: Tensor
    """[N], of the actions taken."""

    entropy: Tensor
    """[N], in nats."""

    log_prob_gradient: Tensor
    """[N, P], of the log probability with respect to the parameters."""

    entropy_gradient: Tensor
    """[N, P], or [P] where all samples have the same: of the entropy with respect to the parameters."""


def distribution_gradients(
    distribution: Distribution, parameters: Tensor, actions: Tensor
) -> DistributionGradients:
    """Log probability and entropy with their gradients.

    Args:
        distribution: Any; by autograd if its gradients aren't written out here.
        parameters: [N, P].
        actions: [N, A].
    """
    with torch.no_grad():
        if type(distribution) is Gaussian:
            return _gaussian(distribution, parameters, actions)
        if type(distribution) is Categorical and distribution.even:
            return _categorical(distribution, parameters, actions)
    return _by_autograd(distribution, parameters.detach(), actions)


def _gaussian(distribution: Gaussian, parameters: Tensor, actions: Tensor) -> DistributionGradients:
    r"""With :math:`z = (a - \mu) / \sigma`.

    .. math::
        \partial \log \pi / \partial \mu = z / \sigma, \quad
        \partial \log \pi / \partial \log \sigma = z^2 - 1, \quad
        \partial H / \partial \log \sigma = 1
    """
    size = distribution.output_size
    mean, log_std = parameters.chunk(2, dim=-1)
    precision = (-log_std).exp()
    scaled = (actions - mean) * precision
    squares = scaled.square()
    total_log_std = log_std.sum(-1)
    constant = 0.5 * math.log(2.0 * math.pi) * size
    entropy_gradient = parameters.new_zeros(2 * size)
    entropy_gradient[size:] = 1.0
    return DistributionGradients(
        log_prob=squares.sum(-1).mul_(-0.5).sub_(total_log_std).sub_(constant),
        entropy=total_log_std + (constant + 0.5 * size),
        log_prob_gradient=torch.cat((scaled * precision, squares - 1.0), dim=-1),
        entropy_gradient=entropy_gradient,
    )


def _categorical(distribution: Categorical, parameters: Tensor, actions: Tensor) -> DistributionGradients:
    r"""By the logits x of each choice; choices are independent.

    .. math::
        \partial \log p_a / \partial x_i = 1_{i = a} - p_i, \quad
        \partial H / \partial x_i = -p_i (\log p_i + H)
    """
    log_probs = distribution.log_probs(parameters)
    probs = distribution.probabilities(log_probs)
    taken = actions.unsqueeze(-1)
    terms = probs * log_probs
    entropy = -terms.sum(-1, keepdim=True)
    ones = torch.ones_like(taken, dtype=probs.dtype)
    return DistributionGradients(
        log_prob=log_probs.gather(-1, taken).sum((-2, -1)),
        entropy=entropy.sum((-2, -1)),
        log_prob_gradient=probs.neg().scatter_add_(-1, taken, ones).flatten(-2),
        entropy_gradient=torch.addcmul(terms, probs, entropy).neg_().flatten(-2),
    )


def _by_autograd(distribution: Distribution, parameters: Tensor, actions: Tensor) -> DistributionGradients:
    """For any distribution. Samples are independent: the gradient of their sum holds that of each."""
    with torch.enable_grad():
        leaf = parameters.requires_grad_()
        log_prob = distribution.log_prob(leaf, actions)
        # Adding 0 times a parameter gives a gradient, of 0, to an entropy that depends on none.
        entropy = distribution.entropy(leaf) + 0.0 * leaf[..., 0]
        (log_prob_gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
        (entropy_gradient,) = torch.autograd.grad(entropy.sum(), leaf)
    return DistributionGradients(log_prob.detach(), entropy.detach(), log_prob_gradient, entropy_gradient)
