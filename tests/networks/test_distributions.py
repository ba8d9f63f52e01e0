"""Action distributions against torch.distributions, and their samples against their densities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributions as peers

from ppo_and_friends.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    SquashedGaussian,
)

N = 50


def parameters(distribution: Distribution, seed: int, rows: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, distribution.parameter_size, generator=generator, dtype=torch.float64)


def noise(distribution: Distribution, rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn if distribution.noise_kind == "normal" else torch.rand
    return draw(rows, distribution.noise_size, generator=generator, dtype=torch.float64)


def gaussian(flat: Tensor) -> peers.Independent:
    mean, log_std = flat.chunk(2, dim=-1)
    return peers.Independent(peers.Normal(mean, log_std.exp()), 1)


CHOICES = [(4,), (3, 3), (2, 5, 3), (1, 4)]
EVERY: list[Distribution] = [
    *(Categorical(choices) for choices in CHOICES),
    Bernoulli(3),
    Gaussian(2),
    SquashedGaussian(2),
]


def name(value: Any) -> str:
    return f"{type(value).__name__}{getattr(value, 'choices', '')}"


@pytest.mark.parametrize("choices", CHOICES)
def test_categorical(choices: tuple[int, ...]) -> None:
    ours = Categorical(choices)
    flat, other = parameters(ours, 1), parameters(ours, 2)
    theirs = [peers.Categorical(logits=part) for part in flat.split(choices, dim=-1)]
    others = [peers.Categorical(logits=part) for part in other.split(choices, dim=-1)]
    actions = torch.stack([peer.sample() for peer in theirs], dim=-1)
    log_prob = sum(peer.log_prob(actions[:, i]) for i, peer in enumerate(theirs))
    torch.testing.assert_close(ours.log_prob(flat, actions), log_prob)
    torch.testing.assert_close(ours.entropy(flat), sum(peer.entropy() for peer in theirs))
    kl = sum(peers.kl_divergence(old, new) for old, new in zip(theirs, others, strict=True))
    torch.testing.assert_close(ours.kl(flat, other), kl)
    assert torch.equal(ours.mode(flat), torch.stack([peer.probs.argmax(-1) for peer in theirs], dim=-1))


def test_bernoulli() -> None:
    ours = Bernoulli(3)
    flat, other = parameters(ours, 1), parameters(ours, 2)
    theirs, others = (peers.Independent(peers.Bernoulli(logits=each), 1) for each in (flat, other))
    actions = theirs.sample()
    torch.testing.assert_close(ours.log_prob(flat, actions.long()), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(flat), theirs.entropy())
    torch.testing.assert_close(ours.kl(flat, other), peers.kl_divergence(theirs, others))
    assert torch.equal(ours.mode(flat), (theirs.base_dist.probs > 0.5).long())


def test_gaussian() -> None:
    ours = Gaussian(3)
    flat, other = parameters(ours, 1), parameters(ours, 2)
    theirs, others = gaussian(flat), gaussian(other)
    actions = theirs.sample()
    torch.testing.assert_close(ours.log_prob(flat, actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(flat), theirs.entropy())
    torch.testing.assert_close(ours.kl(flat, other), peers.kl_divergence(theirs, others))
    assert torch.equal(ours.mode(flat), theirs.mean)
    # The given noise is all the randomness there is.
    given = noise(ours, N)
    torch.testing.assert_close(ours.sample(flat, given), theirs.mean + theirs.stddev * given)


def test_squashed_gaussian() -> None:
    ours = SquashedGaussian(2)
    # Not too wide: the peer can't invert a tanh of 1 and gives NaN.
    flat, other = 0.5 * parameters(ours, 1), 0.5 * parameters(ours, 2)
    theirs = peers.TransformedDistribution(gaussian(flat), peers.TanhTransform())
    actions = ours.sample(flat, noise(ours, N))
    torch.testing.assert_close(
        ours.log_prob(flat, actions), theirs.log_prob(actions.tanh()), rtol=1e-6, atol=1e-6
    )
    # KL is the same before and after an invertible map.
    torch.testing.assert_close(ours.kl(flat, other), peers.kl_divergence(gaussian(flat), gaussian(other)))


def test_the_squashed_density_survives_extreme_actions() -> None:
    ours = SquashedGaussian(1)
    flat = torch.tensor([[0.0, 0.0]])
    actions = torch.tensor([[20.0], [-20.0]])  # tanh is 1 exactly in float32
    # log N(20) - log(1 - tanh(20)^2), where 1 - tanh(u)^2 is 4 exp(-2 |u|) for large u.
    expected = -200.0 - 0.5 * math.log(2 * math.pi) - (math.log(4.0) - 40.0)
    np.testing.assert_allclose(ours.log_prob(flat.expand(2, 2), actions), expected, rtol=1e-6)


@pytest.mark.parametrize("mean", [0.0, 0.7, -2.0])
@pytest.mark.parametrize("std", [0.1, 0.6, 1.0])
def test_the_squashed_entropy_against_monte_carlo(mean: float, std: float) -> None:
    ours = SquashedGaussian(1)
    flat = torch.tensor([[mean, math.log(std)]], dtype=torch.float64).expand(200_000, 2)
    surprise = -ours.log_prob(flat, ours.sample(flat, noise(ours, 200_000)))
    error = float(surprise.std()) / math.sqrt(len(surprise))
    assert abs(float(ours.entropy(flat[:1])) - float(surprise.mean())) < 4 * error + 2e-3


@pytest.mark.parametrize(
    ("std", "tolerance"), [(0.1, 1e-4), (1.0, 1e-4), (3.0, 1e-3), (4.0, 1e-2), (5.0, 3e-2)]
)
def test_the_squashed_entropy_and_its_gradients_hold_to_a_deviation_of_5(
    std: float, tolerance: float
) -> None:
    """Against 100,001 nodes; gradients relative to the unsquashed Gaussian's of 1, or so."""
    ours = SquashedGaussian(1)
    means = torch.linspace(-2 * std, 2 * std, 21, dtype=torch.float64)
    flat = torch.stack([means, torch.full_like(means, math.log(std))], -1).requires_grad_()
    entropy = ours.entropy(flat)
    (gradient,) = torch.autograd.grad(entropy.sum(), flat)
    z = np.linspace(-10.0, 10.0, 100_001)
    weights = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    u = means.numpy()[:, None] + std * z
    slopes = 2.0 * (math.log(2.0) - u - np.logaddexp(0.0, -2.0 * u)) @ weights
    expected = 0.5 * math.log(2.0 * math.pi * math.e) + math.log(std) + slopes
    of_mean, of_log_std = -2.0 * np.tanh(u) @ weights, 1.0 - 2.0 * (np.tanh(u) * std * z) @ weights
    np.testing.assert_allclose(entropy.detach(), expected, atol=tolerance)
    np.testing.assert_allclose(gradient, np.stack([of_mean, of_log_std], -1), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ours", EVERY, ids=name)
def test_samples_follow_the_density(ours: Distribution) -> None:
    """Discrete ones by chi-square, the others by Kolmogorov-Smirnov, each at about 1 in 1000."""
    rows = 20_000
    flat = parameters(ours, 3, 1).expand(rows, -1) * 0.7
    actions = ours.sample(flat, noise(ours, rows, seed=4))
    assert actions.shape == (rows, ours.action_size)
    if isinstance(ours, Gaussian):
        quantiles = torch.special.ndtr((actions - flat[:, :2]) / flat[:, 2:].exp())
        gaps = quantiles.sort(0).values - (torch.arange(rows)[:, None] + 0.5) / rows
        assert gaps.abs().max() < 1.95 / math.sqrt(rows)
        return
    assert actions.dtype is torch.int64
    seen, counts = actions.unique(dim=0, return_counts=True)
    expected = rows * ours.log_prob(flat[: len(seen)], seen).exp()
    assert expected.sum() > 0.999 * rows, "an outcome never came"
    freedom = len(seen) - 1
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < freedom + 3.1 * math.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("ours", EVERY[:5], ids=name)
def test_probabilities_sum_to_one(ours: Distribution) -> None:
    sizes = ours.choices if isinstance(ours, Categorical) else (2,) * ours.action_size
    outcomes = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
    for flat in parameters(ours, 5, 3):
        log_probs = ours.log_prob(flat.expand(len(outcomes), -1), outcomes)
        assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-12)
        assert float(-(log_probs.exp() * log_probs).sum()) == pytest.approx(float(ours.entropy(flat[None])))


@pytest.mark.parametrize("ours", EVERY, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite_and_in_range(ours: Distribution, dtype: torch.dtype) -> None:
    """Noise of exactly 0 and (rounded up) 1, and very sure policies."""
    flat = torch.cat((parameters(ours, 6, 8) * 20.0, torch.zeros(2, ours.parameter_size))).to(dtype)
    flat = flat.clamp(-30, 5) if isinstance(ours, Gaussian) else flat
    for value in (0.0, 1.0):
        actions = ours.sample(flat, torch.full((10, ours.noise_size), value, dtype=dtype))
        if isinstance(ours, Categorical):
            assert (actions >= 0).all() and (actions < torch.tensor(ours.choices)).all()
        leaf = flat.clone().requires_grad_()
        total = ours.log_prob(leaf, actions) + ours.entropy(leaf) + ours.kl(flat, leaf)
        assert total.isfinite().all() and total.dtype is dtype
        (gradient,) = torch.autograd.grad(total.sum(), leaf)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("ours", EVERY, ids=name)
def test_kl_of_itself_is_nothing_and_positive_otherwise(ours: Distribution) -> None:
    flat, other = parameters(ours, 7), parameters(ours, 8)
    assert ours.kl(flat, flat).abs().max() < 1e-12
    assert (ours.kl(flat, other) > 0).all()


@pytest.mark.parametrize("ours", EVERY, ids=name)
def test_the_mode_is_the_most_probable(ours: Distribution) -> None:
    if isinstance(ours, SquashedGaussian):
        return  # there it is the squashed mean, by definition
    flat = parameters(ours, 9)
    best = ours.log_prob(flat, ours.mode(flat))
    for seed in range(5):
        assert (ours.log_prob(flat, ours.sample(flat, noise(ours, N, seed))) <= best + 1e-12).all()
