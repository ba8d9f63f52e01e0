"""Means and variances over many batches and many ranks: pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError

Array = NDArray[Any]
Moment = Array | np.float64


def global_moments(
    samples: Array | Tensor, active: Array | Tensor, communicator: Communicator
) -> tuple[float, np.float64, np.float64]:
    """Count, mean and (population) variance of the active samples of all ranks, in two passes.

    Args:
        samples: [T, B].
        active: [T, B] bool.
        communicator: Two collectives are made.
    """
    chosen = host_array(samples)[host_array(active)].astype(np.float64)
    sums = np.array([len(chosen), chosen.sum()])
    communicator.sum_(sums)
    count, mean = max(sums[0], 1.0), sums[1] / max(sums[0], 1.0)
    squares = np.array([((chosen - mean) ** 2).sum()])
    communicator.sum_(squares)
    return float(sums[0]), np.float64(mean), np.float64(squares[0] / count)


def merge_moments(
    count: float, mean: Moment, variance: Moment, new_count: float, new_mean: Moment, new_variance: Moment
) -> tuple[float, Moment, Moment]:
    """Moments of two sets taken together (Chan, Golub and LeVeque 1979, eq. 2.1).

    Args:
        count: Samples in the first set; 0 makes the result the second set's.
        mean: [...], of the first set.
        variance: [...], population variance of the first set.
        new_count: Samples in the second set.
        new_mean: [...], of the second set.
        new_variance: [...], population variance of the second set.

    Returns:
        Count, mean and variance of the union.
    """
    total = count + new_count
    if total == 0:
        return count, mean, variance
    share = new_count / total
    difference = new_mean - mean
    merged = (1.0 - share) * variance + share * new_variance + share * (1.0 - share) * difference**2
    return total, mean + share * difference, merged


def moved_sums(sums: Array, distance: Array) -> Array:
    """Sums around another point: of x - c from those of x - s.

    Args:
        sums: [1 + 2 N], the number of samples, then for each component the sum of x - s and of its square.
        distance: [N], s - c.

    Returns:
        [1 + 2 N], the same around c.
    """
    count, (total, squares) = sums[0], sums[1:].reshape(2, -1)
    moved = total + count * distance
    return np.concatenate(([count], moved, squares + distance * (total + moved)))


def moments_of_sums(sums: Array, centre: Array) -> tuple[float, Array, Array]:
    """Count, mean and population variance from sums around a point that is near the mean.

    Args:
        sums: [1 + 2 N], as `moved_sums` has them, of all ranks.
        centre: [N], the point.
    """
    count = float(sums[0])
    mean, square = sums[1:].reshape(2, -1) / max(count, 1.0)
    return count, centre + mean, np.maximum(square - mean**2, 0.0)


def check_epsilon(friend: str, epsilon: float) -> None:
    """Refuse a negative summand of a variance or standard deviation.

    Raises:
        UsageError: It is negative.
    """
    if epsilon < 0.0:
        raise UsageError(f"{friend}: epsilon must not be negative, but it is {epsilon:g}.")
