"""The fused loss is the readable one of ``ppo/losses.py``: values and gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian
from ppo_and_friends.networks.kernels.distribution_gradients import distribution_gradients
from ppo_and_friends.networks.kernels.fused_loss import (
    fused_ppo_loss,
    surrogate_and_gradient,
    value_loss_and_gradient,
)
from ppo_and_friends.ppo.losses import LossFunction, clipped_surrogate, ppo_loss, value_loss
from ppo_and_friends.ppo.minibatches import Minibatch
from tests.minibatches import DISTRIBUTIONS, kind, minibatch_of

EXACT = {"rtol": 1e-10, "atol": 1e-13}
"""For double precision."""


def results(
    loss: LossFunction,
    distribution: Distribution,
    minibatch: Minibatch,
    entropy_coefficient: float = 0.02,
    value_clip_range: float | None = None,
) -> tuple[Tensor, ...]:
    """Loss, statistics, and the gradients of twice the loss."""
    total, statistics = loss(
        distribution,
        minibatch,
        clip_range=0.2,
        entropy_coefficient=entropy_coefficient,
        value_coefficient=0.7,
        value_clip_range=value_clip_range,
    )
    leaves = minibatch.policy_parameters, minibatch.value_outputs
    return total.detach(), statistics, *torch.autograd.grad(2.0 * total, leaves)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=kind)
@pytest.mark.parametrize("value_clip_range", [None, 0.3])
@pytest.mark.parametrize("entropy_coefficient", [0.0, 0.02])
def test_the_whole_loss(
    distribution: Distribution, value_clip_range: float | None, entropy_coefficient: float
) -> None:
    minibatch = minibatch_of(distribution)
    settings = (entropy_coefficient, value_clip_range)
    expected = results(ppo_loss, distribution, minibatch, *settings)
    found = results(fused_ppo_loss, distribution, minibatch, *settings)
    for one, other in zip(found, expected, strict=True):
        assert other.count_nonzero() and one.dtype == torch.float64
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=kind)
def test_log_probability_and_entropy(distribution: Distribution) -> None:
    minibatch = minibatch_of(distribution)
    leaf = minibatch.policy_parameters
    found = distribution_gradients(distribution, leaf, minibatch.actions)
    log_prob, entropy = distribution.log_prob(leaf, minibatch.actions), distribution.entropy(leaf)
    torch.testing.assert_close(found.log_prob, log_prob.detach(), **EXACT)
    torch.testing.assert_close(found.entropy, entropy.detach(), **EXACT)
    for value, gradient in ((log_prob, found.log_prob_gradient), (entropy, found.entropy_gradient)):
        (expected,) = torch.autograd.grad(value.sum(), leaf)
        torch.testing.assert_close(gradient.expand_as(leaf), expected, **EXACT)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss(clip: float | None) -> None:
    generator = torch.Generator().manual_seed(3)
    values, returns, old = torch.randn(3, 500, 2, dtype=torch.float64, generator=generator)
    leaf = values.clone().requires_grad_()
    expected = value_loss(leaf, returns, old, clip)
    found, gradient = value_loss_and_gradient(values, returns, old, clip)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), leaf)[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_surrogate_of_extreme_ratios(advantage: float, dtype: torch.dtype) -> None:
    """Equal to the bit, infinite where the ratio is and the sample unclipped, and never NaN."""
    numbers = (0.0, 0.1, -0.1, 1.0, -1.0, 100.0, -100.0, 1e4, -1e4, math.inf, -math.inf)
    leaf = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    advantages = torch.full_like(leaf, advantage, requires_grad=False)
    expected = clipped_surrogate(leaf, advantages, 0.2)
    loss, gradient = surrogate_and_gradient(leaf.detach().exp(), advantages, 0.2)
    assert not gradient.isnan().any()
    assert torch.equal(loss, expected.detach())
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), leaf)[0])
    clipped = leaf > 0.15 if advantage > 0 else leaf < -0.15
    assert torch.equal(gradient == 0.0, clipped | (leaf.detach().exp() == 0.0))


@pytest.mark.parametrize("loss", [ppo_loss, fused_ppo_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distribution", [Categorical((3,)), Gaussian(2)], ids=kind)
@pytest.mark.parametrize("log_ratio", [100.0, 1e4, math.inf, -100.0, -1e4, -math.inf])
def test_a_clipped_row_adds_nothing_to_the_gradient(
    log_ratio: float, distribution: Distribution, dtype: torch.dtype, loss: LossFunction
) -> None:
    minibatch = minibatch_of(distribution, rows=5, dtype=dtype)
    log_probs = distribution.log_prob(minibatch.policy_parameters.detach(), minibatch.actions)
    minibatch.old_log_probs = log_probs - torch.tensor([0.0, log_ratio, 0.0, 0.0, 0.0]).to(dtype)
    minibatch.active = torch.ones(5, dtype=dtype)
    minibatch.advantages[1] = math.copysign(1.0, log_ratio)
    total, _, by_parameters, by_outputs = results(loss, distribution, minibatch, entropy_coefficient=0.0)
    assert total.isfinite() and by_parameters.isfinite().all() and by_outputs.isfinite().all()
    assert by_parameters[1].tolist() == [0.0] * distribution.parameter_size
    assert by_parameters[0].count_nonzero() and by_outputs[1].count_nonzero()


@pytest.mark.parametrize("loss", [ppo_loss, fused_ppo_loss])
def test_an_excluded_row_adds_nothing_whatever_its_ratio(loss: LossFunction) -> None:
    distribution = Gaussian(2)
    minibatch = minibatch_of(distribution, rows=5)
    minibatch.active = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    minibatch.advantages[1] = -1.0
    expected = results(loss, distribution, minibatch)
    extreme = replace(minibatch, old_log_probs=minibatch.old_log_probs.clone())
    extreme.old_log_probs[1], extreme.old_log_probs[4] = -1e4, -math.inf
    for one, other in zip(results(loss, distribution, extreme), expected, strict=True):
        assert torch.equal(one, other)
