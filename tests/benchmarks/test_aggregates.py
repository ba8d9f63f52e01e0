"""The interquartile mean against its definition and its peer, and the bootstrap against an exact case."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.learning_results import bootstrap_interval, interquartile_mean


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 4.0], 2.5),
        ([100.0, 1.0, 2.0], (0.25 * 1 + 2 + 0.25 * 100) / 1.5),
        ([0.0, 1.0, 3.0, 1000.0], 2.0),
        ([5.0, 1.0, 2.0, 3.0, 4.0], (0.75 * 2 + 3 + 0.75 * 4) / 2.5),
        ([0, 0, 1, 2, 3, 4, 9, 9], 2.5),
    ],
)
def test_interquartile_mean_is_the_mean_of_the_middle_half(values: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)


def test_agrees_with_a_trimmed_mean_where_a_quarter_is_whole() -> None:
    values = np.random.default_rng(1).normal(size=(3, 12))
    trimmed = np.sort(values, axis=1)[:, 3:-3].mean(axis=1)
    np.testing.assert_allclose(interquartile_mean(values), trimmed)


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6)))
def test_lies_within_the_values_and_moves_with_them(values: np.ndarray) -> None:
    mean = float(interquartile_mean(values))
    assert values.min() - 1e-6 <= mean <= values.max() + 1e-6
    assert float(interquartile_mean(2 * values + 3)) == pytest.approx(2 * mean + 3, abs=1e-5)


def test_bootstrap_agrees_with_all_resamples_of_three() -> None:
    values = np.array([1.0, 2.0, 6.0])
    every = [float(interquartile_mean(np.array(pick))) for pick in itertools.product(values, repeat=3)]
    for confidence in (0.5, 0.95):
        tail = 50 * (1 - confidence)
        exact = np.percentile(every, [tail, 100 - tail], method="inverted_cdf")
        drawn = bootstrap_interval(values, confidence=confidence, resamples=40_000)
        # A step of the exact distribution may lie just beside the percentile.
        for end, value in zip(exact, drawn, strict=True):
            assert min(abs(np.array(every) - value)) < 0.2
            assert value == pytest.approx(end, abs=0.7)


def test_bootstrap_is_repeatable_ordered_and_exact_for_one() -> None:
    values = np.array([3.0, 8.0, 5.0, 4.0])
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert values.min() <= low <= float(interquartile_mean(values)) <= high <= values.max()
    assert bootstrap_interval(np.array([42.0])) == (42.0, 42.0)


def test_bootstrap_interval_has_the_standard_errors_width() -> None:
    # Of 400 normal values the interquartile mean's standard error is about 1.09 / sqrt(n).
    values = np.random.default_rng(5).normal(size=400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * 1.09 / 20, rel=0.2)
