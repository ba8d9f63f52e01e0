"""The usual statistics of deep RL, by rliable (Agarwal et al. 2021, arXiv:2108.13264)."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.compared_runs import Comparison

Array = NDArray[np.float64]

REPETITIONS = 4_000
PAIR_REPETITIONS = 1_000
CURVE_REPETITIONS = 300
"""Bootstrap samples: for a mean, for a pair, for a curve."""

LEVEL = 0.05
"""Significance level of the verdicts."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Whether one group is better than another."""

    first: str
    second: str
    probability: Interval
    """That a run of the first scores more than a run of the second."""

    smallest_p: float
    """The p value of an exact permutation test if all runs of one were better than all of the other."""

    verdict: str
    """In words."""


def require_rliable() -> Any:
    """Import rliable.

    Raises:
        UsageError: It isn't installed.
    """
    # It hands its random state to the bootstrap in a way that will change there.
    warnings.filterwarnings("ignore", "random_state is deprecated", FutureWarning, "arch")
    try:
        from rliable import library, metrics
    except ImportError:
        raise UsageError(
            "--compare needs packages that aren't installed: pip install 'ppo-and-friends[study]'"
        ) from None
    return library, metrics


def interquartile_means(comparison: Comparison) -> dict[str, Interval]:
    """The mean of the middle half of all runs' scores, of each group."""
    library, metrics = require_rliable()
    values, intervals = library.get_interval_estimates(
        comparison.scores,
        lambda scores: np.array([metrics.aggregate_iqm(scores)]),
        reps=REPETITIONS,
        random_state=np.random.RandomState(0),
    )
    return {
        name: Interval(float(values[name][0]), *(float(bound[0]) for bound in intervals[name]))
        for name in comparison.scores
    }


def pairs(comparison: Comparison) -> list[Pair]:
    """Every group with every later one."""
    library, metrics = require_rliable()
    found = []
    for first, second in itertools.combinations(comparison.scores, 2):
        x, y = comparison.scores[first], comparison.scores[second]
        values, intervals = library.get_interval_estimates(
            {"pair": (x, y)},
            lambda a, b: np.array([_probability(metrics, a, b)]),
            reps=PAIR_REPETITIONS,
            random_state=np.random.RandomState(0),
        )
        low, high = (float(bound[0]) for bound in intervals["pair"])
        probability = Interval(float(values["pair"][0]), low, high)
        p = smallest_p(len(x), len(y), x.shape[1])
        found.append(
            Pair(first, second, probability, p, verdict(first, second, probability, p, len(x), len(y)))
        )
    return found


def _probability(metrics: Any, x: Array, y: Array) -> float:
    """P(x > y), ties half."""
    return float(metrics.probability_of_improvement(x, y))


def smallest_p(first: int, second: int, environments: int = 1) -> float:
    """The two-sided p value of an exact permutation test at complete separation: 2 / C(n+m, n)^K.

    Args:
        first: Runs of one group, in each environment.
        second: Runs of the other.
        environments: K.
    """
    return min(1.0, 2.0 / float(math.comb(first + second, first) ** environments))


def verdict(first: str, second: str, probability: Interval, p: float, n: int, m: int) -> str:
    """What the numbers allow to say."""
    if p > LEVEL:
        more = next(k for k in itertools.count(max(n, m)) if smallest_p(k, k) <= LEVEL)
        return (
            f"too few seeds to tell: with {n} and {m}, even a complete separation has p = {p:.2f}; "
            f"train at least {more} of each"
        )
    if probability.low > 0.5:
        return f"{first} is better"
    if probability.high < 0.5:
        return f"{second} is better"
    return "no difference that these seeds show"


def mean_curves(comparison: Comparison) -> dict[str, tuple[Array, Array]]:
    """Interquartile means [points] along the runs, and their intervals [2, points], of each group."""
    library, _ = require_rliable()
    from scipy.stats import trim_mean  # of all points at once, which rliable's own function doesn't do

    values, intervals = library.get_interval_estimates(
        comparison.curves,
        lambda scores: trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0),
        reps=CURVE_REPETITIONS,
        random_state=np.random.RandomState(0),
    )
    return {name: (values[name], intervals[name]) for name in comparison.curves}


def performance_profiles(comparison: Comparison) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """The share of runs that score more than tau.

    Returns:
        tau [thresholds]; and of each group the shares [thresholds] with their intervals [2, thresholds].
    """
    library, _ = require_rliable()
    everything = np.concatenate([scores.ravel() for scores in comparison.scores.values()])
    margin = max(1e-9, 0.02 * float(np.ptp(everything)))
    tau = np.linspace(everything.min() - margin, everything.max() + margin, 101)
    values, intervals = library.create_performance_profile(comparison.scores, tau, reps=CURVE_REPETITIONS)
    return tau, {name: (values[name], intervals[name]) for name in comparison.scores}
