"""The loss's terms against formulas written out in NumPy, and their gradients where the paper clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.ppo.losses import (
    STATISTICS,
    clip_fraction,
    clipped_surrogate,
    log_probability_ratio,
    ppo_loss,
    value_loss,
)
from tests.minibatches import DISTRIBUTIONS, kind, minibatch_of

RNG = np.random.default_rng(0)


def surrogate(log_ratio: torch.Tensor, advantages: torch.Tensor, clip: float) -> tuple[torch.Tensor, ...]:
    """The surrogate and its gradient with respect to the log ratio."""
    leaf = log_ratio.clone().requires_grad_()
    loss = clipped_surrogate(leaf, advantages, clip)
    return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 2.0, -2.4),  # a good action, more probable already: clipped at 1.2 x 2
        (0.5, 2.0, -1.0),  # a good action that became rarer: 0.5 x 2, unclipped
        (1.5, -2.0, 3.0),  # a bad action, more probable: 1.5 x 2, unclipped
        (0.5, -2.0, 1.6),  # a bad action, rarer already: clipped at 0.8 x 2
        (1.1, 2.0, -2.2),
        (1.0, -3.0, 3.0),
    ],
)
def test_the_four_corners_of_the_surrogate(ratio: float, advantage: float, expected: float) -> None:
    loss, gradient = surrogate(torch.tensor([np.log(ratio)]), torch.tensor([advantage]), 0.2)
    assert loss.item() == pytest.approx(expected)
    clipped = (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
    # The derivative of rho A by log rho is rho A.
    assert gradient.item() == pytest.approx(0.0 if clipped else -ratio * advantage)


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.5])
def test_the_surrogate_as_written_out(clip: float) -> None:
    log_ratio, advantages = RNG.normal(0, 0.5, 500), RNG.normal(size=500)
    ratio = np.exp(log_ratio)
    bounded = np.where(advantages > 0, np.minimum(ratio, 1 + clip), np.maximum(ratio, 1 - clip))
    loss, gradient = surrogate(torch.tensor(log_ratio), torch.tensor(advantages), clip)
    unclipped = bounded == ratio
    assert 50 < unclipped.sum() < 450
    np.testing.assert_allclose(gradient, np.where(unclipped, -ratio * advantages, 0.0), rtol=1e-12)
    np.testing.assert_allclose(loss, -bounded * advantages, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_ratio", [100.0, 1e4, math.inf, -100.0, -1e4, -math.inf])
def test_the_gradient_of_a_clipped_sample_is_zero_whatever_its_ratio(
    log_ratio: float, dtype: torch.dtype
) -> None:
    """e^100 overflows in single precision, e^10000 in both: 0 times infinity would be NaN."""
    sign = math.copysign(1.0, log_ratio)
    loss, gradient = surrogate(torch.tensor([log_ratio], dtype=dtype), torch.tensor([sign], dtype=dtype), 0.2)
    assert loss.item() == pytest.approx(-1.2 if sign > 0 else 0.8)
    assert gradient.item() == 0.0
    # With the other sign nothing is clipped: -rho A, which may be infinite but is a number.
    loss, gradient = surrogate(
        torch.tensor([log_ratio], dtype=dtype), torch.tensor([-sign], dtype=dtype), 0.2
    )
    ratio = torch.tensor(log_ratio, dtype=dtype).exp().item()
    assert loss.item() == gradient.item() == sign * ratio
    assert (ratio == math.inf) == (log_ratio > 700 or (log_ratio == 100 and dtype == torch.float32))


def test_a_sample_that_is_not_a_number_is_not_hidden() -> None:
    loss, gradient = surrogate(torch.tensor([math.nan, 0.0]), torch.ones(2), 0.2)
    assert loss.isnan().tolist() == gradient.isnan().tolist() == [True, False]


def test_the_log_ratio_of_an_excluded_row_is_zero_without_a_gradient() -> None:
    leaf = torch.tensor([-1.0, -1.0, 3.0], requires_grad=True)
    old = torch.tensor([-1.5, -math.inf, -1e4])
    log_ratio = log_probability_ratio(leaf, old, torch.tensor([1.0, 0.0, 0.0]))
    assert log_ratio.tolist() == [0.5, 0.0, 0.0]
    assert torch.autograd.grad(log_ratio.exp().sum(), leaf)[0].tolist() == pytest.approx(
        [math.exp(0.5), 0, 0]
    )


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss_as_written_out(clip: float | None) -> None:
    values, returns, old = RNG.normal(size=(3, 500))
    error, gradient = (values - returns) ** 2, 2 * (values - returns)
    if clip is not None:
        clipped_error = (np.clip(values, old - clip, old + clip) - returns) ** 2
        gradient = np.where(clipped_error > error, 0.0, gradient)
        assert 50 < (gradient == 0).sum() < 450
        error = np.maximum(error, clipped_error)
    leaf = torch.tensor(values, requires_grad=True)
    loss = value_loss(leaf, torch.tensor(returns), torch.tensor(old), clip)
    np.testing.assert_allclose(torch.autograd.grad(loss.sum(), leaf)[0], gradient, rtol=1e-12)
    np.testing.assert_allclose(loss.detach(), error, rtol=1e-12)


def test_a_clipped_value_has_no_gradient_away_from_its_target() -> None:
    # Old 0, target 1, clip 0.1. At 0.5 the clipped prediction 0.1 is worse: no gradient.
    # At -0.5 the prediction itself is worse: 2 (-0.5 - 1) = -3.
    leaf = torch.tensor([0.5, -0.5], requires_grad=True)
    loss = value_loss(leaf, torch.ones(2), torch.zeros(2), 0.1)
    np.testing.assert_allclose(loss.detach(), [0.81, 2.25], rtol=1e-6)
    assert torch.autograd.grad(loss.sum(), leaf)[0].tolist() == [0.0, -3.0]


def test_clip_fraction() -> None:
    ratio = torch.tensor([0.7, 0.85, 1.0, 1.15, 1.25])
    assert clip_fraction(ratio.log(), 0.2).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=kind)
@pytest.mark.parametrize("value_clip_range", [None, 0.3])
def test_the_whole_loss_as_written_out(distribution: Distribution, value_clip_range: float | None) -> None:
    """Two reward streams, excluded rows, a minibatch of which other ranks have a part."""
    clip, c1, c2 = 0.2, 0.7, 0.02
    minibatch = minibatch_of(distribution)
    total, statistics = ppo_loss(
        distribution,
        minibatch,
        clip_range=clip,
        entropy_coefficient=c2,
        value_coefficient=c1,
        value_clip_range=value_clip_range,
    )
    parameters = minibatch.policy_parameters.detach()
    log_probs = distribution.log_prob(parameters, minibatch.actions)
    ratio = np.exp((log_probs - minibatch.old_log_probs).numpy())
    advantages, valid = minibatch.advantages.numpy(), minibatch.active.numpy()
    values, targets, old_values = (
        tensor.detach().numpy()
        for tensor in (minibatch.value_outputs, minibatch.value_targets, minibatch.old_value_outputs)
    )
    errors = (values - targets) ** 2
    if value_clip_range is not None:
        near = np.clip(values, old_values - value_clip_range, old_values + value_clip_range)
        errors = np.maximum(errors, (near - targets) ** 2)
    samples = {
        "policy_loss": -np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages),
        "value_loss": errors.sum(-1),
        "entropy": distribution.entropy(parameters).numpy(),
        "kl": distribution.kl(minibatch.old_policy_parameters, parameters).numpy(),
        "clip_fraction": np.abs(ratio - 1) > clip,
    }
    means = {name: (each * valid).sum() / minibatch.count for name, each in samples.items()}
    assert 0 < valid.sum() < len(valid) and means["clip_fraction"] > 0.03
    assert dict(zip(STATISTICS, statistics.tolist(), strict=True)) == pytest.approx(means, rel=1e-12)
    loss = means["policy_loss"] + c1 * means["value_loss"] - c2 * means["entropy"]
    assert total.item() == pytest.approx(loss, rel=1e-12)
    assert total.requires_grad and not statistics.requires_grad
