"""What the loss needs of an action distribution, with gradients, in NumPy.

On a few hundred numbers NumPy's operations take a fifth of the time of PyTorch's (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian

Array = NDArray[Any]


MAX_PRODUCT = 2**17
"""Elements of a matrix that is multiplied by a vector. OpenBLAS divides larger ones among threads."""


@dataclass(frozen=True)
class PolicyTerms:
    """Of N distributions with P parameters each."""

    log_prob: Array
    """[N], of the actions taken."""

    entropy: Array
    """[N], in nats."""

    kl: Array
    """[N], from the old distributions, in nats."""

    log_prob_gradient: Array
    """[N, P], of the log probability with respect to the parameters."""

    entropy_gradient: Array
    """[N, P], or [P] where all samples have the same: of the entropy with respect to the parameters."""


Terms = Callable[[Array, Array, Array], PolicyTerms]
"""From parameters [N, P], actions [N, A] and old parameters [N, P]."""


def policy_terms(distribution: Distribution) -> Terms | None:
    """The function for a distribution; None: there is none."""
    if type(distribution) is Gaussian:
        return lambda *arrays: _gaussian(distribution.output_size, *arrays)
    if type(distribution) is Categorical and distribution.even:
        return lambda *arrays: _categorical(distribution.action_size, *arrays)
    return None


def _gaussian(size: int, parameters: Array, actions: Array, old_parameters: Array) -> PolicyTerms:
    """`distribution_gradients` has the formulas."""
    mean, log_std = parameters[:, :size], parameters[:, size:]
    old_mean, old_log_std = old_parameters[:, :size], old_parameters[:, size:]
    precision = np.exp(-log_std)
    scaled = (actions - mean) * precision
    squares = scaled * scaled
    total_log_std = _row_sums(log_std)
    log_prob_gradient = np.empty_like(parameters)
    np.multiply(scaled, precision, out=log_prob_gradient[:, :size])
    np.subtract(squares, 1.0, out=log_prob_gradient[:, size:])
    entropy_gradient = np.zeros(2 * size, parameters.dtype)
    entropy_gradient[size:] = 1.0
    narrower = old_log_std - log_std
    shift = (old_mean - mean) * precision
    constant = 0.5 * math.log(2.0 * math.pi) * size
    return PolicyTerms(
        log_prob=_row_sums(squares) * -0.5 - total_log_std - constant,
        entropy=total_log_std + (constant + 0.5 * size),
        kl=_row_sums(0.5 * (np.exp(2.0 * narrower) + shift * shift - 1.0) - narrower),
        log_prob_gradient=log_prob_gradient,
        entropy_gradient=entropy_gradient,
    )


def _row_sums(values: Array) -> Array:
    """[N, A] to [N]."""
    if values.size > MAX_PRODUCT:
        sums: Array = np.einsum("na->n", values)
        return sums
    # Quicker than sums over so few columns.
    return values @ np.ones(values.shape[1], values.dtype)


def _categorical(choices: int, parameters: Array, actions: Array, old_parameters: Array) -> PolicyTerms:
    """`distribution_gradients` has the formulas."""
    log_probs = _log_softmax(parameters.reshape(len(parameters), choices, -1))
    old_log_probs = _log_softmax(old_parameters.reshape(log_probs.shape))
    probs, old_probs, taken = np.exp(log_probs), np.exp(old_log_probs), actions[:, :, np.newaxis]
    entropy = -(probs * log_probs).sum(-1, keepdims=True)
    log_prob_gradient = -probs
    np.put_along_axis(log_prob_gradient, taken, np.take_along_axis(1.0 - probs, taken, axis=-1), axis=-1)
    return PolicyTerms(
        log_prob=np.take_along_axis(log_probs, taken, axis=-1).sum((-2, -1)),
        entropy=entropy.sum((-2, -1)),
        kl=(old_probs * (old_log_probs - log_probs)).sum((-2, -1)),
        log_prob_gradient=log_prob_gradient.reshape(parameters.shape),
        entropy_gradient=(-probs * (log_probs + entropy)).reshape(parameters.shape),
    )


def _log_softmax(logits: Array) -> Array:
    """Over the last axis."""
    shifted: Array = logits - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted
