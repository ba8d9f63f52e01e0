"""Scores are true, of whole episodes, and each counts once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.ppo.episodes import RECENT, EpisodeStatistics, EpisodeTracker
from ppo_and_friends.settings.experiment import friend
from tests.engine import Episodes, experiment, train


def test_by_hand_over_three_rollouts() -> None:
    tracker = EpisodeTracker(Layout(4, 2, 2))
    yes = np.ones((3, 2), bool)

    def rollout(
        scores: list[list[float]], finished: list[tuple[int, int]], resets: list[tuple[int, int]] = ()
    ) -> Any:  # type: ignore[assignment]
        over, valid = np.zeros((3, 2), bool), yes.copy()
        for t, b in finished:
            over[t, b] = True
        for t, b in resets:
            valid[t, b] = False
        return tracker.update(np.array(scores), over, valid).tolist()

    # Environment 2: 1 + 2, ends, a reset row whose score must not count. Environment 3 goes on.
    assert rollout([[1, 10], [2, 20], [99, 30]], [(1, 0)], [(2, 0)]) == [[1, 2, 3, 2]]
    # Environment 2: 4 + 5 + 6 goes on; environment 3: 60 of before and 40.
    assert rollout([[4, 40], [5, 99], [6, 50]], [(0, 1)], [(1, 1)]) == [[0, 3, 100, 4]]
    # Environment 2: 15 of before and 7, a reset, then an episode of one step; environment 3: 50 + 60 + 70.
    assert rollout([[7, 60], [99, 70], [8, 99]], [(0, 0), (2, 0), (1, 1)], [(1, 0), (2, 1)]) == [
        [0, 2, 22, 4],
        [2, 2, 8, 1],
        [1, 3, 180, 3],
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_as_a_naive_count(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = EpisodeTracker(Layout(3, 0, 3))
    total, length, over_before = np.zeros(3), np.zeros(3), np.zeros(3, bool)
    for _ in range(4):
        scores = rng.integers(-5, 6, (steps, 3)).astype(float)
        valid, finished, expected = np.ones((steps, 3), bool), np.zeros((steps, 3), bool), []
        for t in range(steps):
            for b in range(3):
                if over_before[b]:
                    valid[t, b], over_before[b] = False, False
                    continue
                total[b] += scores[t, b]
                length[b] += 1
                if rng.random() < 0.3:
                    finished[t, b] = over_before[b] = True
                    expected.append([float(t), float(b), total[b], length[b]])
                    total[b] = length[b] = 0.0
        got = tracker.update(scores, finished, valid).tolist()
        assert sorted(got) == sorted(expected)


def test_a_restart_forgets_what_was_under_way() -> None:
    tracker = EpisodeTracker(Layout(1, 0, 1))
    row, no, yes = np.ones((1, 1)), np.zeros((1, 1), bool), np.ones((1, 1), bool)
    tracker.update(row * 50, no, yes)
    tracker.restart()
    assert tracker.update(row * 3, yes, yes).tolist() == [[0, 0, 3, 1]]


def test_statistics() -> None:
    statistics, solo = EpisodeStatistics(), SoloCommunicator()
    nothing = statistics.summarise(np.empty((0, 4)), solo)
    assert nothing["episodes"] == 0 and all(
        np.isnan(nothing[key]) for key in nothing if not key.startswith("episodes")
    )
    found = statistics.summarise(np.array([[0, 0, 2.0, 5], [1, 0, 6.0, 7]]), solo)
    assert found == {
        "episodes": 2,
        "episode_return_mean": 4,
        "episode_return_std": 2,
        "episode_return_min": 2,
        "episode_return_max": 6,
        "episode_length_mean": 6,
        "episode_return_mean_100": 4,
        "episodes_in_mean": 2,
    }
    many = np.column_stack([np.arange(150), np.zeros(150), np.arange(150), np.ones(150)])
    found = statistics.summarise(many, solo)
    assert found["episode_return_mean_100"] == np.arange(150)[-RECENT:].mean()
    assert statistics.total == 152


def test_the_recent_scores_do_not_depend_on_the_layout() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [rng.integers(0, 50, 300), rng.permutation(np.arange(300) % 16), rng.random(300), np.ones(300)]
    )

    def recent(size: int) -> list[float]:
        def work(communicator: Any) -> list[float]:
            layout = divide(16, communicator.rank, size)
            own = rows[(rows[:, 1] >= layout.first) & (rows[:, 1] < layout.first + layout.local)]
            statistics = EpisodeStatistics()
            statistics.summarise(own, communicator)
            return list(statistics.recent)

        every = run_threaded(size, work)
        assert all(each == every[0] for each in every)
        return every[0]

    # Two episodes may end at once in one environment in this random table, not in a real one.
    _, index = np.unique(rows[:, :2], axis=0, return_index=True)
    rows = rows[np.sort(index)]
    assert recent(1) == recent(2) == recent(3)


FRIENDS = (
    friend("ObservationNormalizer"),
    friend("RewardNormalizer"),
    friend("RewardClip", low=-0.1, high=0.1),
    friend("AdvantageNormalizer"),
)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("ending", ["truncated", "terminated"])
def test_true_scores_whatever_friends_do(size: int, ending: str) -> None:
    """Rollouts of 4 steps, episodes of 3 and then 7, whose scores are 6 and 28."""
    settings = experiment(
        partial(Episodes, (3, 7), ending), FRIENDS, num_envs=4, rollout_timesteps=16, minibatch_size=8
    )
    for trainer, metrics in train(settings, 6, size):
        # 24 rows an environment: 3 steps, reset, 7 steps, reset, 3, reset, 7, reset.
        assert [each["episodes"] for each in metrics] == [4, 0, 4, 4, 0, 4]
        assert [each["episode_return_mean"] for each in metrics if each["episodes"]] == [6, 28, 6, 28]
        lengths = [each["episode_length_mean"] for each in metrics if each["episodes"]]
        assert lengths == [3, 7, 3, 7]
        assert trainer.timesteps == 4 * 20 and trainer.episodes.total == 16
