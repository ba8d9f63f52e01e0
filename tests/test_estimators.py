"""Advantages: hand-worked, and against a naive loop over each episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppo_and_friends.ppo.estimators import discounted_sums, explained_variance, generalized_advantages

Array = np.ndarray[Any, Any]


def column(*values: float) -> Array:
    return np.array(values, dtype=float)[:, None]


def flags(text: str) -> Array:
    """A [T, 1] bool array from a text like ``..x.``."""
    return np.array([letter == "x" for letter in text])[:, None]


def test_plain_steps_by_hand() -> None:
    # gamma = 1/2, lambda = 1/2: a trace loses 1/4 a step.
    # deltas: 1 + 20/2 - 10 = 1;  2 + 30/2 - 20 = -3;  3 + 40/2 - 30 = -7
    # advantages, from the end: -7;  -3 - 7/4 = -4.75;  1 - 4.75/4 = -0.1875
    got = generalized_advantages(
        column(1, 2, 3), column(10, 20, 30, 40), flags("..."), flags("..."), ~flags("..."),
        gamma=0.5, gae_lambda=0.5,
    )  # fmt: skip
    assert got[:, 0].tolist() == [-0.1875, -4.75, -7.0]


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # Row 1 ends, row 2 is the reset, values[2] = 30 is of the true final observation.
        # Truncated: delta_1 = 2 + 30/2 - 20 = -3; delta_0 = 1 + 20/2 - 10 = 1; A_0 = 1 - 3/4 = 0.25
        (False, [0.25, -3.0, 0.0, 29.0]),
        # Terminated: delta_1 = 2 - 20 = -18; A_0 = 1 - 18/4 = -3.5.  Row 3: 4 + 70/2 - 10 = 29
        (True, [-3.5, -18.0, 0.0, 29.0]),
    ],
)
def test_ends_and_a_reset_row_by_hand(terminated: bool, expected: list[float]) -> None:
    got = generalized_advantages(
        column(1, 2, 99, 4),  # what stands in the reset row doesn't matter
        column(10, 20, 30, 10, 70),
        flags(".x..") & terminated,
        flags(".x.."),
        ~flags("..x."),
        gamma=0.5,
        gae_lambda=0.5,
    )
    assert got[:, 0].tolist() == expected


def test_a_lost_life_terminates_without_a_reset_row() -> None:
    # Row 0 terminates: 1 - 10 = -9. Row 1 is experience of the next life: 2 + 30/2 - 20 = -3.
    got = generalized_advantages(
        column(1, 2), column(10, 20, 30), flags("x."), flags(".."), ~flags(".."),
        gamma=0.5, gae_lambda=0.5,
    )  # fmt: skip
    assert got[:, 0].tolist() == [-9.0, -3.0]


def test_a_stream_without_episodes_by_hand() -> None:
    # Row 1 ends an episode and row 2 is the reset, a transition of no time and no reward:
    # delta_2 = 40 - 30 = 10, kept whole. delta_3 = 4 + 50/2 - 40 = -11, so that trace_2 = -1.
    # delta_1 = 2 + 30/2 - 20 = -3, A_1 = -3 - 1/4 = -3.25;  delta_0 = 1, A_0 = 1 - 3.25/4 = 0.1875
    got = generalized_advantages(
        column(1, 2, 99, 4), column(10, 20, 30, 40, 50), flags(".x.."), flags("...."), ~flags("..x."),
        gamma=0.5, gae_lambda=0.5, episodic=False,
    )  # fmt: skip
    assert got[:, 0].tolist() == [0.1875, -3.25, 0.0, -11.0]
    # Cut on purpose after row 1: A_1 = delta_1, A_0 = 1 - 3/4.
    got = generalized_advantages(
        column(1, 2, 99, 4), column(10, 20, 30, 40, 50), flags(".x.."), flags(".x.."), ~flags("..x."),
        gamma=0.5, gae_lambda=0.5, episodic=False,
    )  # fmt: skip
    assert got[:, 0].tolist() == [0.25, -3.0, 0.0, -11.0]


def test_the_values_need_one_more_row() -> None:
    with pytest.raises(ValueError, match="one row more"):
        generalized_advantages(
            column(1), column(1), flags("."), flags("."), ~flags("."), gamma=1.0, gae_lambda=1.0
        )


def naive(
    rewards: Array, values: Array, terminated: Array, cut: Array, valid: Array, gamma: float, lam: float
) -> Array:
    """Eq. 16 of arXiv:1506.02438 for one environment: a sum of discounted deltas up to the episode's end."""
    advantages = np.zeros(len(rewards))
    for start in np.flatnonzero(valid):
        for k in range(start, len(rewards)):
            if not valid[k]:
                break
            future = 0.0 if terminated[k] else gamma * values[k + 1]
            advantages[start] += (gamma * lam) ** (k - start) * (rewards[k] + future - values[k])
            if terminated[k] or cut[k]:
                break
    return advantages


@st.composite
def episodes(draw: st.DrawFn) -> dict[str, Any]:
    """Random rollouts of 3 environments whose episodes end in every way."""
    steps = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (steps, 3)
    terminated, cut, valid = np.zeros(shape, bool), np.zeros(shape, bool), np.ones(shape, bool)
    for b in range(3):
        t = 0
        while t < steps:
            end = draw(st.sampled_from(["goes on", "terminated", "truncated", "life", "cut on purpose"]))
            terminated[t, b] = end in ("terminated", "life")
            cut[t, b] = end in ("terminated", "truncated", "cut on purpose")
            t += 1
            if end in ("terminated", "truncated") and t < steps:
                valid[t, b] = False
                t += 1
    return {
        "rewards": rng.normal(size=shape),
        "values": rng.normal(size=(steps + 1, 3)),
        "terminated": terminated,
        "trace_ends": cut,
        "valid": valid,
        "gamma": draw(st.floats(0, 1)),
        "lam": draw(st.floats(0, 1)),
    }


@given(episodes())
def test_as_a_naive_loop(case: dict[str, Any]) -> None:
    gamma, lam = case.pop("gamma"), case.pop("lam")
    got = generalized_advantages(**case, gamma=gamma, gae_lambda=lam)
    for b in range(3):
        expected = naive(*(array[:, b] for array in case.values()), gamma, lam)
        np.testing.assert_allclose(got[:, b], expected, atol=1e-10)


@given(episodes())
def test_without_episodes_resets_take_no_time(case: dict[str, Any]) -> None:
    """With lambda 1: the discounted sum of all later rewards up to a cut, resets left out."""
    gamma = case.pop("gamma")
    del case["lam"]
    got = generalized_advantages(**case, gamma=gamma, gae_lambda=1.0, episodic=False)
    for b in range(3):
        keep = np.flatnonzero(case["valid"][:, b])
        for position, t in enumerate(keep):
            cuts = np.flatnonzero(case["trace_ends"][keep[position:], b])
            later = keep[position : position + cuts[0] + 1] if len(cuts) else keep[position:]
            end = later[-1] + 1 if len(cuts) else -1
            total = sum(gamma**k * case["rewards"][s, b] for k, s in enumerate(later))
            total += gamma ** len(later) * case["values"][end, b]
            assert got[t, b] == pytest.approx(total - case["values"][t, b], abs=1e-9)
    assert (got[~case["valid"]] == 0).all()


@given(episodes())
def test_reset_rows_and_far_episodes_have_no_influence(case: dict[str, Any]) -> None:
    gamma, lam = case.pop("gamma"), case.pop("lam")
    before = generalized_advantages(**case, gamma=gamma, gae_lambda=lam)
    noisy = case["rewards"] + 1e6 * ~case["valid"]
    after = generalized_advantages(**(case | {"rewards": noisy}), gamma=gamma, gae_lambda=lam)
    np.testing.assert_array_equal(before, after)


def test_float32_stays_float32() -> None:
    one = np.ones((2, 1), np.float32)
    got = generalized_advantages(
        one, np.ones((3, 1), np.float32), one > 2, one > 2, one > 0, gamma=0.9, gae_lambda=0.9
    )
    np.testing.assert_allclose(got[:, 0], [0.9 + 0.81 * 0.9, 0.9], rtol=1e-6)


def test_discounted_sums_by_hand() -> None:
    # gamma = 1/2. Carried 8: 8/2 + 1 = 5;  5/2 + 2 = 4.5, ends;  3;  3/2 + 4 = 5.5
    got = discounted_sums(column(1, 2, 3, 4), flags(".x.."), np.array([8.0]), gamma=0.5)
    assert got[:, 0].tolist() == [5.0, 4.5, 3.0, 5.5]


@given(episodes(), st.integers(0, 12))
def test_discounted_sums_carry_over_rollouts(case: dict[str, Any], border: int) -> None:
    rewards, ends, gamma = case["rewards"], case["terminated"] | case["trace_ends"], case["gamma"]
    whole = discounted_sums(rewards, ends, np.zeros(3), gamma=gamma)
    border = min(border, len(rewards))
    carried = np.zeros(3)
    if border:
        carried = np.where(ends[border - 1], 0.0, whole[border - 1])
    rest = discounted_sums(rewards[border:], ends[border:], carried, gamma=gamma)
    np.testing.assert_array_equal(rest, whole[border:])


def test_explained_variance() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(3.0, 2.0, 1000)
    for values in (returns, np.full(1000, 5.0), returns + rng.normal(size=1000), -returns):
        errors = returns - values
        got = explained_variance(
            1000.0, errors.sum(), (errors**2).sum(), returns.sum(), (returns**2).sum()
        )  # fmt: skip
        assert got == pytest.approx(1.0 - errors.var() / returns.var(), abs=1e-9)
    assert np.isnan(explained_variance(10.0, 0.0, 0.0, 50.0, 250.0))  # ten returns of 5
    assert np.isnan(explained_variance(0.0, 0.0, 0.0, 0.0, 0.0))  # a rollout of resets alone
