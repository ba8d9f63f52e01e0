"""Loss terms against formulas written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppo_and_friends.losses import clip_fraction, clipped_surrogate, value_loss

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
    log_ratio = torch.tensor([np.log(ratio)], requires_grad=True)
    loss = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2)
    assert loss.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
    held = (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
    # The derivative of rho A by log rho is rho A.
    assert gradient.item() == pytest.approx(0.0 if held else -ratio * advantage)


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.5])
def test_the_surrogate_as_written_out(clip: float) -> None:
    log_ratio, advantages = RNG.normal(0, 0.5, 500), RNG.normal(size=500)
    ratio = np.exp(log_ratio)
    bound = np.where(advantages > 0, np.minimum(ratio, 1 + clip), np.maximum(ratio, 1 - clip))
    got = clipped_surrogate(torch.tensor(log_ratio), torch.tensor(advantages), clip)
    np.testing.assert_allclose(got.numpy(), -bound * advantages, rtol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss_as_written_out(clip: float | None) -> None:
    values, returns, old = RNG.normal(size=(3, 500))
    expected = (values - returns) ** 2
    if clip is not None:
        near = np.minimum(np.maximum(values, old - clip), old + clip)
        expected = np.maximum(expected, (near - returns) ** 2)
    got = value_loss(torch.tensor(values), torch.tensor(returns), torch.tensor(old), clip)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_a_clipped_value_has_no_gradient_away_from_its_target() -> None:
    # Old 0, target 1, clip 0.1. At 0.5 the held prediction 0.1 is worse: no gradient.
    # At -0.5 the prediction itself is worse: 2 (-0.5 - 1) = -3.
    values = torch.tensor([0.5, -0.5], requires_grad=True)
    loss = value_loss(values, torch.ones(2), torch.zeros(2), 0.1)
    np.testing.assert_allclose(loss.detach(), [0.81, 2.25], rtol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    assert gradient.tolist() == [0.0, -3.0]


def test_clip_fraction() -> None:
    ratio = torch.tensor([0.7, 0.85, 1.0, 1.15, 1.25])
    assert clip_fraction(ratio.log(), 0.2).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
