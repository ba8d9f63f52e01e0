"""PPO's loss and its gradients in NumPy, for small minibatches on the CPU.

It computes what `fused_ppo_loss` does; ``ppo/losses.py`` defines it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.networks.kernels.array_distributions import Terms
from ppo_and_friends.networks.kernels.fused_loss import LossInputs

Array = NDArray[Any]


def array_loss(
    terms: Terms,
    minibatch: LossInputs,
    parameters: Array,
    values: Array,
    *,
    clip_range: float,
    entropy_coefficient: float,
    value_coefficient: float,
    value_clip_range: float | None,
) -> tuple[Array, Array, Array]:
    """The loss's statistics, and its gradients with respect to the network's outputs.

    Args:
        terms: Of the action distribution.
        minibatch: On the CPU; its ``policy_parameters`` and ``value_outputs`` aren't read.
        parameters: [N, P], the current network's.
        values: [N, S], the current network's.
        clip_range: As in `ppo.losses.ppo_loss`.
        entropy_coefficient: Likewise.
        value_coefficient: Likewise.
        value_clip_range: Likewise.

    Returns:
        [5], by the names of `ppo.losses.STATISTICS`; [N, P]; [N, S].
    """
    advantages, active = minibatch.advantages.numpy(), minibatch.active.numpy()
    with np.errstate(all="ignore"):  # PyTorch doesn't warn of what is infinite either
        policy = terms(parameters, minibatch.actions.numpy(), minibatch.old_policy_parameters.numpy())
        log_ratio = policy.log_prob - minibatch.old_log_probs.numpy()
        log_ratio[active == 0.0] = 0.0  # before it can overflow
        ratio = np.exp(log_ratio, out=log_ratio)
        surrogate, by_log_ratio = surrogate_and_gradient(ratio, advantages, clip_range)
        errors, by_values = value_loss_and_gradient(
            values, minibatch.value_targets.numpy(), minibatch.old_value_outputs.numpy(), value_clip_range
        )
        weights = active / minibatch.count
        samples = np.empty((5, len(weights)), weights.dtype)
        samples[0], samples[2], samples[3] = surrogate, policy.entropy, policy.kl
        np.add.reduce(errors, axis=-1, out=samples[1])
        samples[4] = np.abs(ratio - 1.0) > clip_range
        by_log_ratio *= weights
        by_parameters = policy.log_prob_gradient
        by_parameters *= by_log_ratio[:, np.newaxis]
        if entropy_coefficient:
            by_parameters -= policy.entropy_gradient * (entropy_coefficient * weights[:, np.newaxis])
        by_values *= value_coefficient * weights[:, np.newaxis]
        return samples @ weights, by_parameters, by_values


def surrogate_and_gradient(ratio: Array, advantages: Array, clip_range: float) -> tuple[Array, Array]:
    """`fused_loss.surrogate_and_gradient` of arrays [N]."""
    unclipped = ratio * advantages
    clipped = np.minimum(np.maximum(ratio, 1.0 - clip_range), 1.0 + clip_range) * advantages
    gradient = -unclipped
    gradient[unclipped > clipped] = 0.0
    return -np.minimum(unclipped, clipped), gradient


def value_loss_and_gradient(
    values: Array, returns: Array, old_values: Array, clip_range: float | None
) -> tuple[Array, Array]:
    """`fused_loss.value_loss_and_gradient` of arrays."""
    difference = values - returns
    error, gradient = difference * difference, 2.0 * difference
    if clip_range is None:
        return error, gradient
    clipped = np.minimum(np.maximum(values, old_values - clip_range), old_values + clip_range) - returns
    clipped *= clipped
    gradient[error < clipped] = 0.0
    return np.maximum(error, clipped), gradient
