"""Schedules in a run, and the KL penalty: values by hand, decisions the same on all ranks, state kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.kl import AdaptiveLearningRate
from ppo_and_friends.friends.kl_penalty import KLPenalty
from ppo_and_friends.ppo.episodes import Highest
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from ppo_and_friends.settings.experiment import friend, linear, steps
from ppo_and_friends.settings.schedules import Status
from tests.friends.runs import assert_same_on_any_ranks, build, experiment, trained


def test_the_run_uses_the_scheduled_rate() -> None:
    trainer = build(experiment([], num_timesteps=160, ppo={"learning_rate": linear(0.01, 0.002)}))
    rates = []
    for _ in range(3):
        done = trainer.progress
        rates.append((trainer.train_iteration()["learning_rate"], 0.01 - 0.008 * done))
    for rate, expected in rates:
        assert rate == pytest.approx(expected)
    assert len({rate for rate, _ in rates}) == 3


def test_steps_go_by_what_the_run_has_reached_and_survive_a_resume() -> None:
    """Timesteps count with the rollout that is being learned from; a bound that is reached stays reached."""
    rate = steps(0.01, (150, 0.005), (10**6, 0.001))
    chosen = experiment([], num_timesteps=2000, ppo={"learning_rate": rate})
    trainer = build(chosen)
    rates = [(trainer.train_iteration()["learning_rate"], trainer.timesteps) for _ in range(4)]
    assert [rate for rate, _ in rates] == [0.01 if done < 150 else 0.005 for _, done in rates]
    assert len({rate for rate, _ in rates}) == 2
    again = build(chosen)
    tensors, state = capture(trainer, 0.0)
    restore_trainer(again, Checkpoint(Path("saved"), trainer.timesteps, tensors, state, {}))
    assert again.highest.numbers == trainer.highest.numbers
    assert again.status.highest["timesteps"] == trainer.timesteps


def test_a_mean_of_few_episodes_decides_nothing() -> None:
    highest = Highest()
    for mean, many, expected in ((9.0, 2.0, None), (5.0, 99.0, None), (4.0, 100.0, 4.0), (3.0, 100.0, 4.0)):
        highest.take({"episode_return_mean_100": mean, "episodes_in_mean": many, "kl": math.nan})
        assert highest.numbers.get("episode_return_mean_100") == expected
    assert "kl" not in highest.numbers


def test_former_friends_are_answered_with_what_does_the_same() -> None:
    for name, said in (("LearningRateAnnealing", "ppo.learning_rate"), ("SoftReset", "HardReset")):
        with pytest.raises(UsageError, match=said):
            build(experiment([friend(name)]))


def test_the_penalty_is_beta_times_kl_with_its_gradient() -> None:
    trainer = build(experiment([friend("KLPenalty", start=3.0)], precision="float64"))
    (member,) = trainer.friends
    assert isinstance(member, KLPenalty)

    class Batch:
        old_policy_parameters = torch.tensor([[0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
        policy_parameters = torch.tensor([[0.5, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)

        def mean(self, samples: Any) -> Any:
            return samples.mean()

    batch: Any = Batch()
    (loss,) = member.loss(batch).values()
    # KL of unit Gaussians: half the squared distance of their means.
    assert float(loss.detach()) == pytest.approx(3.0 * 0.5 * 0.5**2)
    loss.backward()
    np.testing.assert_allclose(batch.policy_parameters.grad[0, 0], 3.0 * 0.5)


def test_beta_doubles_and_halves_within_bounds() -> None:
    member = KLPenalty(target="0.01:0.02", start=1.0, minimum=0.4, maximum=3.0)
    controls = Controls(1.0, 1.0, 0.0)
    for progress, target in ((0.5, 0.015), (1.0, 0.02), (0.0, 0.01)):
        controls.status = Status(progress)
        member.before_update(controls)
        assert member.target == pytest.approx(target)
    betas = []
    for kl in (0.016, 0.014, 0.02, 0.007, 0.0066, 0.0, 0.0, 0.0):
        member.after_update({"kl": kl})
        betas.append(float(member.coefficient))
    assert betas == [2.0, 2.0, 3.0, 3.0, 1.5, 0.75, 0.4, 0.4]


def test_the_penalty_holds_the_policy_back() -> None:
    settings = {"learning_rate": 0.01, "epochs": 6, "clip_range": 10.0}
    free = trained(experiment(ppo=settings), 4)[1]["kl"]
    held = trained(experiment([friend("KLPenalty", start=100.0)], ppo=settings), 4)[1]["kl"]
    assert held < 0.3 * free


def test_any_number_of_ranks() -> None:
    assert_same_on_any_ranks(experiment([friend("KLPenalty")], ppo={"learning_rate": linear(1e-3)}))


@pytest.mark.parametrize("arguments", [{"target": 0.0}, {"start": 0.0}, {"minimum": 2.0}, {"maximum": 0.5}])
def test_penalty_mistakes(arguments: Any) -> None:
    with pytest.raises(UsageError, match="KLPenalty needs"):
        KLPenalty(**arguments)


def test_the_adaptive_rate_can_be_decided_once_an_update() -> None:
    settings = {"learning_rate": 1e-3, "epochs": 3}
    trainer = build(experiment([friend("AdaptiveLearningRate", target=1e9, decide="update")], ppo=settings))
    rates = [trainer.train_iteration()["learning_rate"] for _ in range(4)]
    np.testing.assert_allclose(rates, [1e-3, 1.5e-3, 2.25e-3, 3.375e-3])
    member = AdaptiveLearningRate(target=0.01, decide="update")
    now = Controls(0.5, 0.2, 0.01)
    member.after_minibatch({"kl": 1.0}, now)
    assert now.learning_rate == 0.5
