"""Minibatches made up for tests of the loss, for every kind of action distribution."""

from __future__ import annotations

import torch

from ppo_and_friends.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    SquashedGaussian,
)
from ppo_and_friends.ppo.minibatches import Minibatch

DISTRIBUTIONS = (
    Categorical((3,)),
    Categorical((2, 2, 2)),
    Categorical((2, 4)),  # choices of unlike width
    Bernoulli(3),
    Gaussian(2),
    SquashedGaussian(2),
)
"""Every kind, and every branch of those that have several."""


def kind(distribution: Distribution) -> str:
    """A distribution's name in a test's id."""
    return f"{type(distribution).__name__}-{distribution.parameter_size}"


def minibatch_of(
    distribution: Distribution, *, rows: int = 200, dtype: torch.dtype = torch.float64
) -> Minibatch:
    """Random rows with two reward streams; some are excluded; other ranks have rows, too.

    The network's outputs are leaves, so that gradients with respect to them can be asked for. The policy has
    moved from the old one so far that a part of the rows is clipped.
    """
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = draw(rows, distribution.parameter_size)
    outputs = draw(rows, 2)
    noise = draw(rows, distribution.noise_size)
    if distribution.noise_kind == "uniform":
        noise = torch.special.ndtr(noise)
    old = parameters + 0.2 * draw(rows, distribution.parameter_size)
    actions = distribution.sample(old, noise)
    return Minibatch(
        samples=torch.arange(rows),
        observations={"policy": draw(rows, 1)},
        episode_starts=torch.zeros(rows, dtype=torch.bool),
        states=torch.zeros(rows, 0),
        actions=actions,
        old_log_probs=distribution.log_prob(old, actions),
        old_policy_parameters=old,
        advantages=draw(rows),
        value_targets=draw(rows, 2),
        old_value_outputs=outputs + 0.3 * draw(rows, 2),
        active=(draw(rows) > -1.0).to(dtype),
        count=1.6 * rows,
        policy_parameters=parameters.requires_grad_(),
        value_outputs=outputs.requires_grad_(),
    )
