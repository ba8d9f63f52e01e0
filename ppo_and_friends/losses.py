"""PPO's loss terms, one value per sample: pure functions of [N] tensors.

They are not averaged here: the trainer divides sums by the count of valid rows over all ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    r"""Negated clipped surrogate objective (arXiv:1707.06347, eq. 7).

    .. math:: -\min(\rho A,\; \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A)

    Args:
        log_ratio: [N], log of the new over the old probability of the action taken.
        advantages: [N].
        clip: Epsilon, > 0.

    Returns:
        [N], to be minimised.
    """
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor, clip: float | None) -> Tensor:
    r"""Squared error of the critic (arXiv:1707.06347, eq. 9), optionally clipped.

    With a clip, the larger of the plain error and that of the prediction held within ``clip`` of
    the old one, as in the authors' implementation (arXiv:2005.12729, section 2).

    Args:
        values: [N], new predictions.
        returns: [N], targets.
        old_values: [N], predictions when the rollout was collected.
        clip: Largest change, > 0; None: unlimited.

    Returns:
        [N], to be minimised.
    """
    error = (values - returns).square()
    if clip is None:
        return error
    held = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(error, (held - returns).square())


def clip_fraction(log_ratio: Tensor, clip: float) -> Tensor:
    """[N], 1 where the probability ratio is outside the clip range, else 0."""
    return ((log_ratio.exp() - 1.0).abs() > clip).to(log_ratio.dtype)
