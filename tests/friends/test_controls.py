"""Annealing and the KL penalty: values by hand, decisions the same on all ranks, state kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.annealing import ClipAnnealing, EntropyAnnealing, LearningRateAnnealing, annealed
from ppo_and_friends.friends.kl import AdaptiveLearningRate
from ppo_and_friends.friends.kl_penalty import KLPenalty
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.settings.experiment import friend
from tests.friends.runs import assert_same_on_any_ranks, build, experiment, trained


def controls(progress: float = 0.0, timesteps: int = 0) -> Controls:
    return Controls(0.5, 0.2, 0.01, progress=progress, timesteps=timesteps)


@pytest.mark.parametrize(
    ("shape", "progress", "value"),
    [
        ("linear", 0.0, 4.0),
        ("linear", 0.25, 3.25),
        ("linear", 1.0, 1.0),
        ("cosine", 0.0, 4.0),
        ("cosine", 0.5, 2.5),
        ("cosine", 1.0, 1.0),
        ("cosine", 1 / 3, 1.0 + 3.0 * 0.75),
    ],
)
def test_shapes(shape: Any, progress: float, value: float) -> None:
    assert annealed(shape, 4.0, 1.0, progress) == pytest.approx(value)


def test_each_moves_its_own_quantity_from_what_ppo_has() -> None:
    now = controls(progress=0.5)
    for kind in (LearningRateAnnealing, ClipAnnealing, EntropyAnnealing):
        kind().before_update(now)
    assert (now.learning_rate, now.clip_range, now.entropy_coefficient) == (0.25, 0.1, 0.005)


def test_steps_by_timesteps() -> None:
    member = LearningRateAnnealing(shape="steps", at=(100, 200, 300), factor=0.5, end=0.1)
    values = []
    for timesteps in (99, 100, 199, 250, 1000):
        now = controls(timesteps=timesteps)
        member.before_update(now)
        values.append(now.learning_rate)
    assert values == [0.5, 0.25, 0.25, 0.125, 0.1]


def test_steps_by_score_stay_reached() -> None:
    member = ClipAnnealing(shape="steps", at=(10.0, 20.0), by="score", start=0.4)
    values = []
    for score in (float("nan"), 5.0, 10.0, 3.0, 25.0, 0.0):
        member.after_update({"score_mean_100": score})
        now = controls()
        member.before_update(now)
        values.append(now.clip_range)
    np.testing.assert_allclose(values, [0.4, 0.4, 0.04, 0.04, 0.004, 0.004])
    again = ClipAnnealing(shape="steps", at=(10.0, 20.0), by="score", start=0.4)
    again.state.load_state_dict(member.state.state_dict())
    now = controls()
    again.before_update(now)
    assert now.clip_range == pytest.approx(0.004)


def test_the_run_uses_the_annealed_rate() -> None:
    chosen = experiment([friend("LearningRateAnnealing", start=0.01, end=0.002)], num_timesteps=160)
    trainer = build(chosen)
    rates = []
    for _ in range(3):
        done = trainer.progress
        rates.append((trainer.train_iteration()["learning_rate"], 0.01 - 0.008 * done))
    for rate, expected in rates:
        assert rate == pytest.approx(expected)
    assert len({rate for rate, _ in rates}) == 3


@pytest.mark.parametrize(
    "arguments", [{"end": -1.0}, {"shape": "steps"}, {"at": (1.0,)}, {"shape": "steps", "at": (2.0, 1.0)}]
)
def test_annealing_mistakes(arguments: Any) -> None:
    with pytest.raises(UsageError, match="EntropyAnnealing"):
        EntropyAnnealing(**arguments)


def test_two_masters_of_the_learning_rate_are_refused() -> None:
    with pytest.raises(UsageError, match="LearningRateAnnealing and AdaptiveLearningRate"):
        build(experiment([friend("AdaptiveLearningRate"), friend("LearningRateAnnealing")]))


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
    member = KLPenalty(target=0.01, start=1.0, minimum=0.4, maximum=3.0)
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
    assert_same_on_any_ranks(experiment([friend("KLPenalty"), friend("LearningRateAnnealing")]))


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
    now = controls()
    member.after_minibatch({"kl": 1.0}, now)
    assert now.learning_rate == 0.5
