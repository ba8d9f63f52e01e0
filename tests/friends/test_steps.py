"""Friends that clip, and friends that watch the KL divergence, by their numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import Controls, EpisodeHistory, Friend, RolloutRequest
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.kl import AdaptiveLearningRate, KLEarlyStop, kl_ahead
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import friend
from ppo_and_friends.settings.schedules import Status, linear
from tests.engine import experiment, on_ranks, train
from tests.rollouts import arrays


@pytest.mark.parametrize(("kl", "stops"), [(0.019, False), (0.02, False), (0.021, True), (-1e-9, False)])
def test_early_stop(kl: float, stops: bool) -> None:
    assert KLEarlyStop(target=0.02, decide="epoch").wants_to_stop({"kl": kl}) is stops
    assert not KLEarlyStop(target=0.02).wants_to_stop({"kl": kl})


@pytest.mark.parametrize(
    ("previous", "kl", "ahead"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 0.01, 0.04),  # a distance of 0.1 from 0: 0.2 next
        (0.01, 0.04, 0.09),
        (0.04, 0.04, 0.04),
        (0.04, 0.01, 0.01),  # on the way back
        (-1e-9, 0.01, 0.04),  # rounding can make it negative
    ],
)
def test_the_divergence_after_a_step_is_foreseen(previous: float, kl: float, ahead: float) -> None:
    assert kl_ahead(kl, previous) == pytest.approx(ahead)


@pytest.mark.parametrize("kind", [KLEarlyStop, AdaptiveLearningRate])
def test_it_stops_where_the_next_step_has_led_to_the_target(kind: Any) -> None:
    # Distances 0, 0.03, 0.06, 0.09: after the steps at 0.06 it is 0.09, whose square is 0.0081.
    for target, last in ((0.0082, 3), (0.008, 2), (1e-9, 1), (1.0, None)):
        member, controls = kind(target=target), Controls(1e-3, 0.2, 0.0)
        for _ in range(2):  # each update begins anew
            member.before_update(controls)
            stopped = []
            for kl in (0.0, 0.0009, 0.0036, 0.0081):
                controls.stop = False
                member.after_minibatch({"kl": kl}, controls)
                stopped.append(controls.stop)
            assert (stopped.index(True) if any(stopped) else None) == last
    member = kind(target=1.0)
    member.after_minibatch({"kl": float("nan")}, controls)
    assert controls.stop


def test_early_stop_ends_the_epochs() -> None:
    ((_, metrics),) = train(experiment("CartPole-v1", epochs=6, learning_rate=0.02), 2)
    assert [each["epochs"] for each in metrics] == [6, 6]
    settings = experiment(
        "CartPole-v1", (friend("KLEarlyStop", target=1e-4, decide="epoch"),), epochs=6, learning_rate=0.02
    )
    ((_, metrics),) = train(settings, 2)
    assert [each["epochs"] for each in metrics] == [1, 1]
    assert all(each["kl"] > 1e-4 for each in metrics)


class Steps(Friend):
    """Notes the KL of every gradient step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        self.seen.append(stats["kl"])


def test_early_stop_ends_within_an_epoch() -> None:
    friends = (friend("KLEarlyStop", target=1e-4), friend(Steps))
    settings = experiment("CartPole-v1", friends, epochs=6, learning_rate=0.02)
    ((trainer, metrics),) = train(settings, 1)
    assert metrics[0]["epochs"] == 1
    seen = next(each for each in trainer.friends if isinstance(each, Steps)).seen
    # The first step's KL is 0, the second's shows where the first one led to.
    assert (
        len(seen) == 2 < len(trainer._bounds) and seen[0] == pytest.approx(0.0, abs=1e-7) and seen[1] > 1e-4
    )


@pytest.mark.parametrize(
    ("epoch", "kls", "expected"),
    [
        (0, (0.0, 0.003, 0.0081), 2e-3),  # the target is reached in the first epoch: divided by 1.5
        (1, (0.0, 0.003, 0.0081), 3e-3),
        (4, (0.0, 0.001, 0.0025, 0.004), 4.5e-3),  # half of it never is: multiplied
        (4, (0.0, 0.002, 0.004, 0.006), 3e-3),
    ],
)
def test_adaptive_rate_once_an_update(epoch: int, kls: tuple[float, ...], expected: float) -> None:
    adaptive: Any = AdaptiveLearningRate(target=0.01)
    adaptive.rate.fill_(3e-3)
    controls = Controls(1.0, 0.2, 0.0)
    adaptive.before_update(controls)
    assert controls.learning_rate == pytest.approx(3e-3)
    adaptive.before_epoch(epoch, None)
    for kl in kls:
        adaptive.after_minibatch({"kl": kl}, controls)
    assert controls.stop == (kls[-1] > 0.008) and controls.learning_rate == pytest.approx(3e-3)
    adaptive.after_update({"kl": 0.0})
    assert float(adaptive.rate) == pytest.approx(expected)


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
    adaptive: Any = AdaptiveLearningRate(target=0.01, decide="step")
    controls = Controls(rate, 0.2, 0.0)
    adaptive.after_minibatch({"kl": kl}, controls)
    assert controls.learning_rate == pytest.approx(expected)
    later = Controls(1.0, 0.2, 0.0)
    adaptive.before_update(later)
    assert later.learning_rate == pytest.approx(expected)


def test_adaptive_rate_with_a_target_that_falls() -> None:
    adaptive: Any = AdaptiveLearningRate(target=linear(0.02, 0.004), decide="step")
    for progress, target in ((0.0, 0.02), (0.25, 0.016), (1.0, 0.004)):
        adaptive.rate.fill_(3e-3)
        controls = Controls(1.0, 0.2, 0.0, status=Status(progress))
        adaptive.before_update(controls)
        adaptive.after_minibatch({"kl": 1.9 * target}, controls)
        assert controls.learning_rate == pytest.approx(3e-3)
        adaptive.after_minibatch({"kl": 2.1 * target}, controls)
        assert controls.learning_rate == pytest.approx(2e-3)
        once: Any = AdaptiveLearningRate(target=linear(0.02, 0.004))
        once.before_update(controls)
        once.after_minibatch({"kl": 0.95 * target}, controls)
        assert controls.stop  # the step that begins there ends beyond the target
        controls.stop = False


def test_observation_clip() -> None:
    clip = make_friend(friend("ObservationClip", limit=2.0))
    history = EpisodeHistory(episode_starts=np.ones(1, bool))
    assert clip.transform(np.array([[-9.0, 1.5, 3.0]]), history).tolist() == [[-2.0, 1.5, 2.0]]
    space = clip.observation_space(spaces.Box(np.float32(-np.inf), np.float32(1.0), (2,)))
    assert (space.low.tolist(), space.high.tolist()) == ([-2.0] * 2, [1.0] * 2)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (-math.inf, -1.0), (-1.0, math.inf)])
def test_reward_clip_changes_what_is_learned_from_alone(low: float, high: float) -> None:
    settings = experiment("Pendulum-v1", (friend("RewardClip", low=low, high=high),), num_envs=4)

    def work(trainer: Trainer, _: Any) -> None:
        rollout = arrays(trainer.collect())
        assert rollout.true_rewards.min() < -1.0 < rollout.true_rewards.max()
        clipped = np.clip(rollout.true_rewards, low, high)
        np.testing.assert_allclose(rollout.rewards["extrinsic"], clipped, rtol=1e-6)

    on_ranks(settings, 1, work)


def test_the_lower_end_of_rewards_falls_with_the_run() -> None:
    clip = friend("RewardClip", low="-0.5:-2.5", high=0.5)
    settings = experiment("Pendulum-v1", (clip,), num_envs=4)

    def work(trainer: Trainer, _: Any) -> None:
        total = settings.num_timesteps
        for done, low in ((0, -0.5), (total // 2, -1.5), (2 * total, -2.5)):
            trainer.timesteps = done
            rollout = arrays(trainer.collect())
            expected = np.clip(rollout.true_rewards, low, 0.5)
            assert rollout.true_rewards.min() < low
            np.testing.assert_allclose(rollout.rewards["extrinsic"], expected, rtol=1e-6)
            assert trainer.friends.metrics() == {"RewardClip/low": pytest.approx(low)}

    on_ranks(settings, 1, work)


def test_both_ends_of_rewards_move_and_may_not_cross() -> None:
    clip = make_friend(friend("RewardClip", low="-1:-3", high="0:2"))
    for progress, low, high in ((0.0, -1.0, 0.0), (0.5, -2.0, 1.0), (1.0, -3.0, 2.0)):
        clip.before_rollout(RolloutRequest(np.zeros(0), 1, status=Status(progress)))
        assert clip.metrics() == {"low": low, "high": high}
    crossing = make_friend(friend("RewardClip", low="-1:1", high="0:-2"))  # both -2/3 after a sixth
    crossing.before_rollout(RolloutRequest(np.zeros(0), 1, status=Status(0.1)))
    with pytest.raises(UsageError, match="in iteration 7 low is 0, not below high, -1"):
        crossing.before_rollout(RolloutRequest(np.zeros(0), 7, status=Status(0.5)))
