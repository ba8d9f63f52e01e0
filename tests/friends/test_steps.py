"""Friends that clip, and friends that watch the KL divergence, by their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.experiment import friend
from ppo_and_friends.friends import Controls, ObservationStream
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.kl import AdaptiveLearningRate, KLEarlyStop
from ppo_and_friends.trainer import Trainer
from tests.engine import experiment, on_ranks, train


@pytest.mark.parametrize(("kl", "stops"), [(0.019, False), (0.02, False), (0.021, True), (-1e-9, False)])
def test_early_stop(kl: float, stops: bool) -> None:
    assert KLEarlyStop(target=0.02).wants_to_stop({"kl": kl}) is stops


def test_early_stop_ends_the_epochs() -> None:
    ((_, metrics),) = train(experiment("CartPole-v1", epochs=6, learning_rate=0.02), 2)
    assert [each["epochs"] for each in metrics] == [6, 6]
    settings = experiment("CartPole-v1", (friend("KLEarlyStop", target=1e-4),), epochs=6, learning_rate=0.02)
    ((_, metrics),) = train(settings, 2)
    assert [each["epochs"] for each in metrics] == [1, 1]
    assert all(each["kl"] > 1e-4 for each in metrics)


@pytest.mark.parametrize(
    ("kl", "rate", "expected"),
    [
        (0.021, 3e-3, 2e-3),  # above twice the target: divided by 1.5
        (0.020, 3e-3, 3e-3),
        (0.005, 3e-3, 3e-3),
        (0.004, 3e-3, 4.5e-3),  # below half of it: multiplied
        (0.0, 9e-3, 1e-2),  # never above the maximum
        (1.0, 1.2e-5, 1e-5),  # nor below the minimum
        (float("nan"), 3e-3, 2e-3),
    ],
)
def test_adaptive_rate(kl: float, rate: float, expected: float) -> None:
    adaptive: Any = AdaptiveLearningRate(target=0.01)
    controls = Controls(rate, 0.2, 0.0)
    adaptive.after_minibatch({"kl": kl}, controls)
    assert controls.learning_rate == pytest.approx(expected)
    later = Controls(1.0, 0.2, 0.0)
    adaptive.before_update(later)
    assert later.learning_rate == pytest.approx(expected)


def test_observation_clip() -> None:
    clip = make_friend(friend("ObservationClip", limit=2.0))
    stream = ObservationStream(fresh=np.ones(1, bool))
    assert clip.transform(np.array([[-9.0, 1.5, 3.0]]), stream).tolist() == [[-2.0, 1.5, 2.0]]
    space = clip.observation_space(spaces.Box(np.float32(-np.inf), np.float32(1.0), (2,)))
    assert (space.low.tolist(), space.high.tolist()) == ([-2.0] * 2, [1.0] * 2)


def test_reward_clip_changes_what_is_learned_from_alone() -> None:
    settings = experiment("Pendulum-v1", (friend("RewardClip", low=-0.5, high=0.5),), num_envs=4)

    def work(trainer: Trainer, _: Any) -> None:
        rollout = trainer.collect()
        assert rollout.rewards["extrinsic"].min() == -0.5
        assert rollout.scores.min() < -1.0
        clipped = np.clip(rollout.scores, -0.5, 0.5)
        np.testing.assert_allclose(rollout.rewards["extrinsic"], clipped, rtol=1e-6)

    on_ranks(settings, 1, work)
