"""Rewards, advantages, resets, segments and limits: what they do to a rollout, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.limits import BootstrapClip, GradientClip
from ppo_and_friends.friends.resets import SegmentLength
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.ppo.estimators import generalized_advantages, stream_advantages
from ppo_and_friends.ppo.hooks import RolloutRequest
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import friend
from tests.friends.runs import Drift, assert_same_on_any_ranks, build, experiment, trained
from tests.minibatches import minibatch_of
from tests.rollouts import arrays


def one(name: str, **arguments: Any) -> tuple[Trainer, Any]:
    trainer = build(experiment([friend(name, **arguments)], precision="float64"))
    return trainer, next(iter(trainer.friends))


def test_reward_scale_multiplies_rewards_and_leaves_scores() -> None:
    plain = build(experiment(precision="float64")).collect()
    scaled = one("RewardScale", factor=0.25)[0].collect()
    np.testing.assert_allclose(scaled.rewards["extrinsic"], 0.25 * plain.rewards["extrinsic"])
    np.testing.assert_array_equal(scaled.true_rewards, plain.true_rewards)


def test_recompute_estimates_with_the_current_critic() -> None:
    trainer, member = one("AdvantageRecompute")
    rollout = trainer.collect()
    trainer.estimate(rollout)
    before = rollout.advantages.numpy().copy()
    with torch.no_grad():
        trainer.network.value_head.bias += 3.0
    assert [member.before_epoch(epoch, rollout) for epoch in range(4)] == [False, True, True, True]
    trainer.reestimate(rollout)
    rollout = arrays(rollout)
    assert np.abs(rollout.advantages - before)[rollout.active].min() > 1e-3
    expected = generalized_advantages(
        rollout.rewards["extrinsic"],
        rollout.values["extrinsic"],
        rollout.terminated,
        rollout.truncated,
        rollout.active,
        gamma=0.99,
        gae_lambda=0.95,
    )
    np.testing.assert_allclose(rollout.advantages, expected)


def test_recompute_every_few_epochs_changes_what_is_learned() -> None:
    _, member = one("AdvantageRecompute", every=2)
    assert [member.before_epoch(epoch, None) for epoch in range(5)] == [False, False, True, False, True]
    settings = {"epochs": 4, "learning_rate": 0.01}
    plain, _ = trained(experiment(ppo=settings))
    other, _ = trained(experiment([friend("AdvantageRecompute")], ppo=settings))
    assert not torch.equal(plain.optimizer.parameters, other.optimizer.parameters)


def test_advantages_are_normalised_in_each_minibatch() -> None:
    trainer, member = one("AdvantageNormalizer", per_minibatch=True)
    rollout = trainer.collect()
    trainer.estimate(rollout)
    kept = rollout.advantages.clone()
    member.after_estimation(rollout)
    np.testing.assert_array_equal(rollout.advantages, kept)
    samples = torch.tensor([1.0, 5.0, 100.0, 3.0], dtype=torch.float64)
    valid = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    batch = replace(minibatch_of(Gaussian(1), rows=4), advantages=samples, active=valid, count=3.0)
    member.before_minibatch(batch)
    normalised = batch.advantages[[0, 1, 3]].numpy()
    np.testing.assert_allclose(normalised, (np.array([1.0, 5.0, 3.0]) - 3.0) / np.sqrt(8.0 / 3.0))
    assert_same_on_any_ranks(experiment([friend("AdvantageNormalizer", per_minibatch=True)]))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_hard_resets_come_as_often_as_asked(probability: float) -> None:
    _, member = one("HardReset", probability=probability)
    asked = []
    for iteration in range(1, 401):
        request = RolloutRequest(np.zeros((1, 1, 1)), iteration)
        member.before_rollout(request)
        asked.append(request.reset)
    assert np.mean(asked) == pytest.approx(probability, abs=0.08)
    if probability in (0.0, 1.0):
        assert np.mean(asked) == probability


def test_only_hard_resets_begin_new_episodes_at_each_rollout() -> None:
    # A rollout is 16 steps and an episode 7 and a reset: rows 0, 8 and 16 begin an episode.
    for friends, restarted in (([], [True, False]), ([friend("HardReset")], [True, True])):
        trainer = build(experiment(friends, precision="float64", ppo={"rollout_timesteps": 5 * 5}))
        rollouts = []
        for _ in range(2):
            rollout = trainer.collect()
            rollouts.append((rollout.restarted, rollout.active.all(), rollout.truncated.any()))
        assert [each[0] for each in rollouts] == restarted
        ended = bool(friends)  # five steps after a reset nothing ends; without one, something does
        assert rollouts[1][1] == ended


def test_the_reset_keeps_scores_whole() -> None:
    _, stats = trained(experiment([friend("HardReset")], ppo={"rollout_timesteps": 5 * 10}), 3)
    assert stats["episode_length_mean"] == 7.0 and stats["episodes"] == 5.0


def test_segments_are_cut_and_counted_over_rollouts() -> None:
    trainer, member = one("SegmentLength", steps=3)
    assert isinstance(member, SegmentLength)
    # Episodes of 7 steps and one reset row; 16 steps a rollout.
    first, second = trainer.collect().trace_ends[:, 0].clone(), trainer.collect().trace_ends[:, 0].clone()
    row = [0, 0, 1, 0, 0, 1, 0, 0]
    np.testing.assert_array_equal(first, np.array(row * 2, bool))
    np.testing.assert_array_equal(second, np.array(row * 2, bool))


def test_a_cut_segment_bootstraps_without_ending() -> None:
    trainer, _ = one("SegmentLength", steps=2)
    rollout = trainer.collect()
    trainer.estimate(rollout)
    rollout = arrays(rollout)
    values, rewards = rollout.values["extrinsic"], rollout.rewards["extrinsic"]
    delta = rewards + 0.99 * values[1:] - values[:-1]
    # Steps 0 and 1 are a segment: step 1 is a one-step advantage, step 0 has a trace of two.
    np.testing.assert_allclose(rollout.advantages[1], delta[1])
    np.testing.assert_allclose(rollout.advantages[0], delta[0] + 0.99 * 0.95 * delta[1])
    assert not rollout.terminated[1].any() and not rollout.truncated[1].any()


def test_segments_cut_streams_that_episodes_do_not() -> None:
    chosen = experiment([friend("RND"), friend("SegmentLength", steps=2)], precision="float64")
    trainer = build(chosen)
    rollout = trainer.collect()
    trainer.estimate(rollout)
    (stream,) = (each for each in trainer.streams if each.name == "novelty")
    advantages = stream_advantages(rollout, stream, rollout.values["novelty"]).numpy()
    rollout = arrays(rollout)
    values, rewards = rollout.values["novelty"], rollout.rewards["novelty"]
    delta = rewards + 0.99 * values[1:] - values[:-1]
    np.testing.assert_allclose(advantages[1], delta[1])
    np.testing.assert_allclose(advantages[0], delta[0] + 0.99 * 0.95 * delta[1])
    # Step 6 ends the episode, and row 7 is the reset: the trace goes on into the next one.
    assert (rollout.terminated | rollout.truncated)[6].all() and not rollout.trace_ends[6].any()
    new = rewards[8] + 0.99 * values[9] - values[8] + 0.99 * 0.95 * delta[9]
    np.testing.assert_allclose(advantages[6], delta[6] + 0.99 * 0.95 * (values[8] - values[7] + new))


@pytest.mark.parametrize("mode", ["fixed", "rewards", "returns"])
def test_bootstrap_clip_touches_only_what_is_bootstrapped_from(mode: Any) -> None:
    trainer, member = one("BootstrapClip", range=mode, low=-0.5, high=0.5)
    assert isinstance(member, BootstrapClip)
    with torch.no_grad():
        trainer.network.value_head.bias += 1e6
    rollout = trainer.collect()
    trainer.estimate(rollout)
    rollout = arrays(rollout)
    values, outputs = rollout.values["extrinsic"], rollout.value_outputs["extrinsic"]
    rewards = rollout.rewards["extrinsic"][rollout.active]
    low, high = {
        "fixed": (-0.5, 0.5),
        "rewards": (rewards.min(), rewards.max()),
        "returns": (min(rewards.min(), 0.0) * 100, max(rewards.max(), 0.0) * 100),
    }[mode]
    assert member.bounds() == pytest.approx((low, high))
    used = np.zeros(values.shape, bool)
    used[1:][rollout.truncated] = True
    used[-1] = True
    assert rollout.truncated[:-1].any()
    np.testing.assert_allclose(values[used], high)
    np.testing.assert_array_equal(values[~used], outputs[~used])
    # Rows it touched hold no experience: nothing else depends on their values.
    assert not rollout.active[used[:-1]].any()


def test_bootstrap_range_widens_over_rollouts_and_ranks() -> None:
    assert_same_on_any_ranks(experiment([friend("BootstrapClip", range="rewards")]))
    trainer, member = one("BootstrapClip", range="rewards")
    seen: list[float] = []
    for _ in range(3):
        rollout = trainer.collect()
        seen += rollout.rewards["extrinsic"][rollout.active].tolist()
        assert member.bounds() == pytest.approx((min(seen), max(seen)))


def test_bootstrap_clip_is_in_the_units_of_rewards_wherever_it_stands() -> None:
    for order in (("PopArt", "BootstrapClip"), ("BootstrapClip", "PopArt")):
        trainer, _ = trained(experiment([friend(name) for name in order], precision="float64"), 2)
        rollout = trainer.collect()
        trainer.estimate(rollout)
        member = next(each for each in trainer.friends if isinstance(each, BootstrapClip))
        low, high = member.bounds()
        assert (rollout.values["extrinsic"][-1] >= low - 1e-9).all()
        assert (rollout.values["extrinsic"][-1] <= high + 1e-9).all()


def test_value_errors_are_limited() -> None:
    _, member = one("ValueErrorClip", limit=0.5)
    old = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    targets = torch.tensor([[9.0, 1.2], [1.6, -9.0]])
    batch = replace(minibatch_of(Gaussian(1), rows=2), value_targets=targets, old_value_outputs=old)
    member.before_minibatch(batch)
    np.testing.assert_allclose(batch.value_targets, [[0.5, 1.2], [1.6, 2.5]])


def test_gradients_are_clipped_but_not_mended() -> None:
    gradients = torch.tensor([0.1, -7.0, torch.inf, torch.nan])
    GradientClip(limit=0.5).before_step(gradients)
    np.testing.assert_allclose(gradients, [0.1, -0.5, np.nan, np.nan])
    _, stats = trained(experiment([friend("GradientClip", limit=1e-9)]))
    assert 0.0 < stats["gradient_norm"] < 1e-7


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RewardScale", {"factor": 0.0}),
        ("AdvantageRecompute", {"every": 0}),
        ("HardReset", {"probability": 1.1}),
        ("SegmentLength", {"steps": 0}),
        ("BootstrapClip", {"low": 1.0, "high": 1.0}),
        ("ValueErrorClip", {"limit": 0.0}),
        ("GradientClip", {"limit": -1.0}),
    ],
)
def test_mistakes(name: str, arguments: Any) -> None:
    with pytest.raises(UsageError, match=name):
        one(name, **arguments)


class Far(Drift):
    """One step to the right at a time; the interesting states are 30 steps away."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.zeros(3)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + 1.0
        return self._observe(), float(self.place[0] >= 30), False, False, {}


@pytest.mark.parametrize(("names", "seen"), [((), True), (("HardReset",), False)])
def test_hard_resets_hide_what_lies_beyond_a_rollout(names: tuple[str, ...], seen: bool) -> None:
    # 80 timesteps over 5 environments: 16 steps each, and the reward comes after 30.
    trainer = build(experiment([friend(name) for name in names], lambda: Far(spaces.Discrete(2))))
    rewards = [trainer.collect().rewards["extrinsic"].max() for _ in range(4)]
    assert bool(max(rewards) > 0.0) == seen
