"""Log probabilities and entropies together with their derivatives, written out.

Autograd would need some thirty small steps for them: with minibatches of 64 rows that takes longer than the
network itself (docs/performance.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian


@dataclass(frozen=True)
class Slopes:
    """Of N distributions, with P parameters each."""

    log_prob: Tensor
    """[N], of the actions taken."""

    entropy: Tensor
    """[N], in nats."""

    of_log_prob: Tensor
    """[N, P], the log probability's derivative by the parameters."""

    of_entropy: Tensor
    """[N, P], or something that spreads to it: the entropy's derivative by the parameters."""


def slopes(distribution: Distribution, parameters: Tensor, actions: Tensor) -> Slopes:
    """What ``distribution`` says about actions, and which way its parameters move that.

    Args:
        distribution: Any; by autograd if its derivatives aren't written out here.
        parameters: [N, P].
        actions: [N, A].
    """
    with torch.no_grad():
        if type(distribution) is Gaussian:
            return _gaussian(distribution, parameters, actions)
        if type(distribution) is Categorical and distribution.even:
            return _categorical(distribution, parameters, actions)
    return _by_autograd(distribution, parameters.detach(), actions)


def _gaussian(distribution: Gaussian, parameters: Tensor, actions: Tensor) -> Slopes:
    """With z = (a - mu) / sigma: z / sigma by the mean, z^2 - 1 by the log deviation."""
    size = distribution.output_size
    mean, log_std = parameters.chunk(2, dim=-1)
    precision = (-log_std).exp()
    scaled = (actions - mean) * precision
    squares = scaled.square()
    spread = log_std.sum(-1)
    constant = 0.5 * math.log(2.0 * math.pi) * size
    by_entropy = parameters.new_zeros(2 * size)
    by_entropy[size:] = 1.0
    return Slopes(
        log_prob=squares.sum(-1).mul_(-0.5).sub_(spread).sub_(constant),
        entropy=spread + (constant + 0.5 * size),
        of_log_prob=torch.cat((scaled * precision, squares - 1.0), dim=-1),
        of_entropy=by_entropy,
    )


def _categorical(distribution: Categorical, parameters: Tensor, actions: Tensor) -> Slopes:
    """By a choice's logits: 1 where it was taken, less p; and -p (log p + H)."""
    log_probs = distribution.log_probs(parameters)
    probs = log_probs.exp()
    taken = actions.unsqueeze(-1)
    surprise = probs * log_probs
    entropy = -surprise.sum(-1, keepdim=True)
    by_log_prob = probs.neg().scatter_add_(-1, taken, torch.ones_like(taken, dtype=probs.dtype))
    return Slopes(
        log_prob=log_probs.gather(-1, taken).sum((-2, -1)),
        entropy=entropy.sum((-2, -1)),
        of_log_prob=by_log_prob.flatten(-2),
        of_entropy=torch.addcmul(surprise, probs, entropy).neg_().flatten(-2),
    )


def _by_autograd(distribution: Distribution, parameters: Tensor, actions: Tensor) -> Slopes:
    """For any distribution: rows don't touch each other, so the derivative of their sum holds each one's."""
    with torch.enable_grad():
        leaf = parameters.requires_grad_()
        log_prob = distribution.log_prob(leaf, actions)
        # Adding nothing of the leaf makes a constant entropy one that has a derivative.
        entropy = distribution.entropy(leaf) + 0.0 * leaf[..., 0]
        (of_log_prob,) = torch.autograd.grad(log_prob.sum(), leaf)
        (of_entropy,) = torch.autograd.grad(entropy.sum(), leaf)
    return Slopes(log_prob.detach(), entropy.detach(), of_log_prob, of_entropy)
