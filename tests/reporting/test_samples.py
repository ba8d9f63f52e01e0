"""Samples of a rollout: only experience, in the environment's units, few, and seldom."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.reporting.samples import MOST_VALUES, SampleClock, action_std, samples_of, thinned

T, B = 5, 3


def rollout(actions: np.ndarray, parameters: int, steps: int = T, features: int = 2) -> Rollout:
    shape = (steps, B)
    counted = torch.arange(steps * B, dtype=torch.float64).reshape(shape)
    flags = torch.zeros(shape, dtype=torch.bool)
    active = torch.ones(shape, dtype=torch.bool)
    active[1, 2] = False
    return Rollout(
        observations={"policy": torch.full((steps + 1, B, features), 4.0)},
        episode_starts=torch.zeros((steps + 1, B), dtype=torch.bool),
        states=torch.zeros((steps + 1, B, 0)),
        actions=torch.from_numpy(actions),
        terminated=flags, truncated=flags, trace_ends=flags, active=active, finished=flags,
        true_rewards=counted,
        rewards={"extrinsic": counted, "icm": -counted},
        policy_parameters=torch.full((*shape, parameters), math.log(0.5)),
        log_probs=counted,
        value_outputs={},
        values={"extrinsic": torch.cat((counted, torch.full((1, B), 1e9, dtype=torch.float64)))},
        advantages=counted * 10,
    )  # fmt: skip


def test_samples_are_of_experience_in_the_environments_units() -> None:
    mapping = ActionMapping(spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64))
    found = samples_of(rollout(np.full((T, B, 2), 0.5), 4), mapping)
    assert sorted(found) == [
        "actions/0", "actions/1", "advantages", "observations",
        "rewards/extrinsic", "rewards/icm", "values/extrinsic",
    ]  # fmt: skip
    expected = [float(i) for i in range(T * B) if i != 1 * B + 2]  # without the reset row
    np.testing.assert_array_equal(found["rewards/extrinsic"], expected)
    np.testing.assert_array_equal(found["rewards/icm"], -np.array(expected))
    np.testing.assert_array_equal(found["values/extrinsic"], expected)
    np.testing.assert_array_equal(found["advantages"], 10 * np.array(expected))
    np.testing.assert_array_equal(found["actions/0"], np.full(14, 1.0))  # half of 2
    np.testing.assert_array_equal(found["actions/1"], np.full(14, 7.5))  # 5 + half of 5
    np.testing.assert_array_equal(found["observations"], np.full(28, 4.0))


def test_a_rollout_of_resets_alone_has_no_samples() -> None:
    resets = rollout(np.zeros((T, B, 2)), 4)
    resets.active[:] = False
    assert samples_of(resets, ActionMapping(spaces.Box(-1.0, 1.0, (2,)))) == {}


def test_discrete_actions_begin_where_the_space_does() -> None:
    mapping = ActionMapping(spaces.Discrete(3, start=5))
    found = samples_of(rollout(np.full((T, B, 1), 2), 3), mapping)
    assert set(found["actions"]) == {7.0} and len(found["actions"]) == 14
    assert action_std(rollout(np.full((T, B, 1), 2), 3), mapping) == {}


def test_the_deviation_of_a_gaussian_policy() -> None:
    mapping = ActionMapping(spaces.Box(-1.0, 1.0, (2,)))
    assert action_std(rollout(np.zeros((T, B, 2)), 4), mapping) == {"action_std": pytest.approx(0.5)}


def test_large_rollouts_are_thinned() -> None:
    mapping = ActionMapping(spaces.Box(-1.0, 1.0, (20,)))
    steps = 20_000
    found = samples_of(rollout(np.zeros((steps, B, 20)), 40, steps, features=50), mapping)
    assert all(MOST_VALUES / 4 < len(values) <= MOST_VALUES for values in found.values())
    assert "actions" in found  # twenty histograms are too many
    assert found["rewards/extrinsic"].max() > 0.99 * steps * B  # evenly, to the end


@pytest.mark.parametrize("n", [0, 1, MOST_VALUES, MOST_VALUES + 1, 3 * MOST_VALUES + 5])
def test_thinning_keeps_the_limit(n: int) -> None:
    assert min(n, 1) <= len(thinned(np.zeros(n))) <= MOST_VALUES


def test_when_samples_are_due() -> None:
    now = [0.0]
    clock = SampleClock(clock=lambda: now[0])
    assert clock.due()  # the first report
    # 0.1 s a report: the 20th comes after 2 s, but 5 s have to pass.
    due = []
    for i in range(1, 101):
        now[0] = i / 10
        if clock.due():
            due.append(now[0])
    assert due == [5.0, 10.0]
    # 2 s a report: every 15th, since 30 s have passed by then; 1 s a report: every 20th.
    for seconds, reports in ((2.0, 15), (1.0, 20)):
        begin = now[0]
        while not clock.due():
            now[0] += seconds
        begin, count = now[0], 0
        while True:
            now[0] += seconds
            count += 1
            if clock.due():
                break
        assert (count, now[0] - begin) == (reports, reports * seconds)
