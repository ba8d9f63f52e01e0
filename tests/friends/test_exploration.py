"""Coloured noise and state-dependent exploration: the marginals stay, the correlations change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.exploration import CorrelatedNoise, coloured
from ppo_and_friends.friends.state_dependent_exploration import StateDependentExploration, StateDependentHead
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.ppo.hooks import RolloutRequest
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from tests.friends.runs import assert_same_on_any_ranks, build, drift, experiment, trained


def correlation(noise: Any, lag: int) -> float:
    return float((noise[lag:] * noise[:-lag]).mean())


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 65])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
def test_every_sample_of_coloured_noise_has_variance_1(steps: int, exponent: float) -> None:
    # The filter is linear: the variance of a sample is the sum of its squared weights, exactly.
    weights = coloured(np.eye(steps), exponent)
    np.testing.assert_allclose((weights**2).sum(axis=1), 1.0, atol=1e-12)


def test_colour_is_a_power_law() -> None:
    noise = coloured(np.random.default_rng(0).normal(size=(256, 4000)), 1.0)
    power = (np.abs(np.fft.rfft(noise, axis=0)) ** 2).mean(axis=1)
    slope = np.polyfit(np.log(np.arange(1, 128)), np.log(power[1:128]), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.02)


def test_white_noise_stays_as_it_is() -> None:
    noise = np.random.default_rng(0).normal(size=(31, 2))
    np.testing.assert_allclose(coloured(noise, 0.0), noise, atol=1e-12)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2,)), spaces.Discrete(3)])
def test_the_marginal_distribution_stays_and_neighbours_correlate(space: Any) -> None:
    chosen = experiment([friend("CorrelatedNoise", exponent=1.0)], drift(space))
    trainer = build(chosen)
    (member,) = trainer.friends
    assert isinstance(member, CorrelatedNoise)
    random = np.random.default_rng(1)
    normal = isinstance(space, spaces.Box)
    white = (random.normal(size=(32, 4000, 1)) if normal else random.random((32, 4000, 1))).astype(np.float32)
    request = RolloutRequest(white.copy(), 1)
    member.before_rollout(request)
    assert request.noise.dtype == np.float32 and request.noise.shape == white.shape
    levels = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(request.noise, levels), np.quantile(white, levels), atol=0.03)
    centred = (request.noise - request.noise.mean()) / request.noise.std()
    assert correlation(centred, 1) > 0.4 and abs(correlation(white - white.mean(), 1)) < 0.02
    if not normal:
        assert request.noise.min() >= 0.0 and request.noise.max() < 1.0


def gaussian_head(actions: int = 2, features: int = 5) -> StateDependentHead:
    generator = torch.Generator().manual_seed(0)
    head = PolicyHead(features, Gaussian(actions), NetworkSettings(), generator)
    return StateDependentHead(head, -0.5).double()


def test_gsde_deviation_is_that_of_its_noise() -> None:
    head = gaussian_head()
    torch.manual_seed(0)
    features = torch.randn(3, 5, dtype=torch.float64)
    with torch.no_grad():
        head.log_std += 0.3 * torch.randn_like(head.log_std)
        mean, log_std = head(features).chunk(2, -1)
        sigma = head.log_std.exp()
        expected = torch.stack([(row[:, None] ** 2 * sigma**2).sum(0) for row in features]).sqrt()
        torch.testing.assert_close(log_std.exp(), expected, rtol=1e-4, atol=1e-5)
        weights = torch.randn(20_000, 5, 2, dtype=torch.float64)
        noise = head.noise(features[:1].expand(20_000, -1), weights)
        assert noise.mean(0).abs().max() < 0.03
        torch.testing.assert_close(noise.var(0), torch.ones(2, dtype=torch.float64), atol=0.03, rtol=0)
        # Action = mean + deviation * noise = mean + (weights * sigma)^T features, equation (7).
        action = mean[0] + log_std[0].exp() * head.noise(features[:1], weights[:1])[0]
        torch.testing.assert_close(action, mean[0] + features[0] @ (weights[0] * sigma), rtol=1e-4, atol=1e-4)


def test_gsde_features_get_no_gradient_from_the_exploration() -> None:
    head = gaussian_head()
    features = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    head(features)[:, 2:].sum().backward()
    assert features.grad is not None and not features.grad.any()
    assert head.log_std.grad is not None and head.log_std.grad.any()


def test_gsde_keeps_its_function_for_some_steps() -> None:
    trainer = build(experiment([friend("StateDependentExploration", resample_every=4)]))
    (member,) = trainer.friends
    assert isinstance(member, StateDependentExploration)
    member.before_rollout(RolloutRequest(np.zeros((1, 1, 1)), 1))
    same = torch.ones(5, 3)
    drawn = [member.shape_noise(torch.zeros(5, 2), same).detach() for _ in range(12)]
    for start in (0, 4, 8):
        for step in range(start, start + 4):
            torch.testing.assert_close(drawn[step], drawn[start])
    assert (drawn[0] - drawn[4]).abs().max() > 1e-3 and (drawn[0][0] - drawn[0][1]).abs().max() > 1e-3


def test_gsde_trains_its_deviations_on_any_number_of_ranks() -> None:
    chosen = experiment([friend("StateDependentExploration")])
    before = build(chosen).network.state_dict()["policy_head.log_std"].clone()
    after = trained(chosen)[0].network.state_dict()["policy_head.log_std"]
    assert (before - after).abs().max() > 1e-6
    assert_same_on_any_ranks(chosen)


@pytest.mark.parametrize(
    ("friends", "space", "message"),
    [
        ((friend("StateDependentExploration"),), spaces.Discrete(2), "Box action space, not Discrete"),
        ((friend("StateDependentExploration"), friend("CorrelatedNoise")), None, "can't work together"),
        ((friend("CorrelatedNoise", exponent=-1.0),), None, "between 0 and 4"),
        ((friend("StateDependentExploration", resample_every=0),), None, "at least 1"),
    ],
)
def test_mistakes(friends: Any, space: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(experiment(friends, drift(space)))
