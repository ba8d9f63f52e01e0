"""Loss terms against formulas written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppo_and_friends.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    SquashedGaussian,
)
from ppo_and_friends.ppo.losses import STATISTICS, clip_fraction, clipped_surrogate, ppo_loss, value_loss
from ppo_and_friends.ppo.minibatches import Minibatch

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 2.0, -2.4),  # a good action, more probable already: held at 1.2 x 2
        (0.5, 2.0, -1.0),  # a good action that became rarer: 0.5 x 2, free to recover
        (1.5, -2.0, 3.0),  # a bad action, more probable: 1.5 x 2, free to recover
        (0.5, -2.0, 1.6),  # a bad action, rarer already: held at 0.8 x 2
        (1.1, 2.0, -2.2),
        (1.0, -3.0, 3.0),
    ],
)
def test_the_four_corners_of_the_surrogate(ratio: float, advantage: float, expected: float) -> None:
    log_ratio = torch.tensor([np.log(ratio)])
    loss, slope = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2)
    assert loss.item() == pytest.approx(expected)
    held = (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
    # The derivative of rho A by log rho is rho A.
    assert slope.item() == pytest.approx(0.0 if held else -ratio * advantage)


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.5])
def test_the_surrogate_as_written_out(clip: float) -> None:
    log_ratio, advantages = RNG.normal(0, 0.5, 500), RNG.normal(size=500)
    ratio = np.exp(log_ratio)
    bound = np.where(advantages > 0, np.minimum(ratio, 1 + clip), np.maximum(ratio, 1 - clip))
    got, slope = clipped_surrogate(torch.tensor(log_ratio), torch.tensor(advantages), clip)
    free = bound == ratio
    np.testing.assert_allclose(slope.numpy(), np.where(free, -ratio * advantages, 0.0), rtol=1e-12)
    np.testing.assert_allclose(got.numpy(), -bound * advantages, rtol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss_as_written_out(clip: float | None) -> None:
    values, returns, old = RNG.normal(size=(3, 500))
    expected = (values - returns) ** 2
    if clip is not None:
        near = np.minimum(np.maximum(values, old - clip), old + clip)
        expected = np.maximum(expected, (near - returns) ** 2)
    leaf = torch.tensor(values, requires_grad=True)
    got, slope = (each.detach() for each in value_loss(leaf, torch.tensor(returns), torch.tensor(old), clip))
    plain = (leaf - torch.tensor(returns)).square()
    if clip is not None:
        held = torch.tensor(old) + (leaf - torch.tensor(old)).clamp(-clip, clip)
        plain = torch.maximum(plain, (held - torch.tensor(returns)).square())
    torch.testing.assert_close(slope, torch.autograd.grad(plain.sum(), leaf)[0])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_a_clipped_value_has_no_gradient_away_from_its_target() -> None:
    # Old 0, target 1, clip 0.1. At 0.5 the held prediction 0.1 is worse: no gradient.
    # At -0.5 the prediction itself is worse: 2 (-0.5 - 1) = -3.
    loss, slope = value_loss(torch.tensor([0.5, -0.5]), torch.ones(2), torch.zeros(2), 0.1)
    np.testing.assert_allclose(loss, [0.81, 2.25], rtol=1e-6)
    assert slope.tolist() == [0.0, -3.0]


def test_clip_fraction() -> None:
    ratio = torch.tensor([0.7, 0.85, 1.0, 1.15, 1.25])
    assert clip_fraction(ratio.log(), 0.2).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "distribution",
    [Categorical((3,)), Categorical((2, 4)), Bernoulli(3), Gaussian(2), SquashedGaussian(2)],
    ids=lambda one: f"{type(one).__name__}-{one.parameter_size}",
)
@pytest.mark.parametrize("value_clip_range", [None, 0.3])
@pytest.mark.parametrize("entropy_coefficient", [0.0, 0.02])
def test_the_whole_loss_by_autograd(
    distribution: Distribution, value_clip_range: float | None, entropy_coefficient: float
) -> None:
    """Two reward streams, reset rows, a share of a minibatch that other ranks have a part of."""
    rows, streams, count, clip, value_coefficient = 200, 2, 321.0, 0.2, 0.7
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    parameters = draw(rows, distribution.parameter_size).requires_grad_()
    outputs = draw(rows, streams).requires_grad_()
    noise = draw(rows, distribution.noise_size)
    if distribution.noise_kind == "uniform":
        noise = torch.special.ndtr(noise)
    old = parameters.detach() + 0.2 * draw(rows, distribution.parameter_size)
    actions = distribution.sample(old, noise)
    minibatch = Minibatch(
        rows=torch.arange(rows),
        observations=draw(rows, 1),
        actions=actions,
        old_log_probs=distribution.log_prob(old, actions),
        old_policy_parameters=old,
        advantages=draw(rows),
        value_targets=draw(rows, streams),
        old_value_outputs=outputs.detach() + 0.3 * draw(rows, streams),
        valid=(draw(rows) > -1.0).to(torch.float64),
        count=count,
        policy_parameters=parameters,
        value_outputs=outputs,
    )
    weights = {
        "clip_range": clip,
        "entropy_coefficient": entropy_coefficient,
        "value_coefficient": value_coefficient,
    }
    got = ppo_loss(distribution, minibatch, value_clip_range=value_clip_range, **weights)

    ratio = (distribution.log_prob(parameters, actions) - minibatch.old_log_probs).exp()
    held = torch.where(minibatch.advantages > 0, ratio.clamp_max(1 + clip), ratio.clamp_min(1 - clip))
    surrogate = -held * minibatch.advantages
    errors = (outputs - minibatch.value_targets) ** 2
    if value_clip_range is not None:
        change = (outputs - minibatch.old_value_outputs).clamp(-value_clip_range, value_clip_range)
        near = (minibatch.old_value_outputs + change - minibatch.value_targets) ** 2
        errors = torch.maximum(errors, near)
    entropy = distribution.entropy(parameters)
    means = [(each * minibatch.valid).sum() / count for each in (surrogate, errors.sum(-1), entropy)]
    loss = means[0] + value_coefficient * means[1] - entropy_coefficient * means[2]
    by_parameters, by_outputs = torch.autograd.grad(loss, (parameters, outputs))
    torch.testing.assert_close(got.total, loss)
    # Twice the loss has twice the derivatives.
    ours = torch.autograd.grad(2.0 * got.total, (parameters, outputs))
    torch.testing.assert_close(ours[0], 2.0 * by_parameters, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours[1], 2.0 * by_outputs, rtol=1e-9, atol=1e-12)
    kl = (distribution.kl(old, parameters) * minibatch.valid).sum() / count
    outside = (((ratio - 1).abs() > clip) * minibatch.valid).sum() / count
    assert outside > 0.03, "nothing is held"
    expected = dict(zip(STATISTICS, (*means, kl, outside), strict=True))
    for place, name in enumerate(STATISTICS):
        assert got.statistics[place].item() == pytest.approx(expected[name].item(), rel=1e-9), name
