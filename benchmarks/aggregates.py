"""Summaries of several seeds: interquartile mean and its bootstrap interval (arXiv:2108.13264)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 5000


def interquartile_mean(values: Array, axis: int = -1) -> Array:
    """Mean of the middle half: a quarter of the weight is cut off at each end.

    Where a quarter isn't a whole number of values, the value at the border counts in part (with three
    values the outer two count a quarter each), so that no value is left out for a small number of seeds.

    Args:
        values: At least one along ``axis``.
        axis: Along which the mean is taken.
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), axis=-1)
    n = ordered.shape[-1]
    edges = np.arange(n + 1, dtype=np.float64)
    low, high = n / 4, 3 * n / 4
    weights = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0, None)
    return np.asarray(ordered @ weights / weights.sum())


def bootstrap_interval(
    values: Array, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean, resampling whole runs.

    Args:
        values: [runs], a score each.
        confidence: In (0, 1).
        resamples: How many.
        seed: The same gives the same interval.

    Returns:
        Lower and upper end; both the value itself for a single run.
    """
    values = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = interquartile_mean(values[picks])
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)
