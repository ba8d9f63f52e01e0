"""Nested action spaces: what adds up, adds up; and every action is an element of its space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.common.nested import flattened, row_of
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.distributions import Bernoulli, Categorical, Gaussian, SquashedGaussian
from ppo_and_friends.networks.joint import Joint
from ppo_and_friends.networks.joint_mapping import JointMapping, action_mapping
from ppo_and_friends.networks.kernels.distribution_gradients import distribution_gradients
from tests.engine import Identity, experiment, train

MIXED = spaces.Dict(
    move=spaces.Box(-2.0, 4.0, (2,)),
    mode=spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(2)]),
    keys=spaces.MultiDiscrete([2, 4]),
)
CHOICES = spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)])


def test_log_probabilities_entropies_and_divergences_add() -> None:
    parts = (Categorical((3,)), Gaussian(2), SquashedGaussian(1), Bernoulli(2))
    joint = Joint(parts)
    assert (joint.output_size, joint.parameter_size, joint.action_size) == (3 + 2 + 1 + 2, 8 + 2 + 1, 6)
    generator = torch.Generator().manual_seed(1)
    old, new = torch.randn((2, 50, 11), generator=generator, dtype=torch.float64).unbind()

    def own(parameters: torch.Tensor) -> list[torch.Tensor]:
        """By hand: outputs are columns 0-2, 3-4, 5, 6-7; log deviations 8-9 and 10."""
        columns = ([0, 1, 2], [3, 4, 8, 9], [5, 10], [6, 7])
        return [parameters[:, each] for each in columns]

    noise = torch.randn((50, joint.noise_size), generator=generator, dtype=torch.float64)
    actions = joint.sample(old, noise)
    taken = [actions[:, :1].long(), actions[:, 1:3], actions[:, 3:4], actions[:, 4:].long()]
    pairs = list(zip(parts, own(old), own(new), taken, strict=True))
    torch.testing.assert_close(joint.log_prob(old, actions), sum(p.log_prob(o, a) for p, o, _, a in pairs))
    torch.testing.assert_close(joint.entropy(old), sum(p.entropy(o) for p, o, _, _ in pairs))
    torch.testing.assert_close(joint.kl(old, new), sum(p.kl(o, n) for p, o, n, _ in pairs))
    torch.testing.assert_close(joint.mode(old)[:, 1:3], own(old)[1][:, :2])
    # The kernel's gradients are those of autograd.
    found = distribution_gradients(joint, old, actions)
    leaf = old.clone().requires_grad_()
    (expected,) = torch.autograd.grad(joint.log_prob(leaf, actions).sum(), leaf)
    torch.testing.assert_close(found.log_prob_gradient, expected)


def test_choices_keep_their_frequencies_beside_a_gaussian() -> None:
    """Their uniform noise is made of normal noise."""
    joint = Joint((Categorical((3,)), Gaussian(1), Bernoulli(1)))
    assert joint.noise_kind == "normal" and joint.action_dtype is None
    probabilities = torch.tensor([0.2, 0.5, 0.3])
    parameters = torch.cat((probabilities.log(), torch.tensor([1.0, 0.0, 0.0]))).repeat(200_000, 1)
    noise = torch.randn((200_000, 3), generator=torch.Generator().manual_seed(1))
    actions = joint.sample(parameters, noise)
    shares = torch.bincount(actions[:, 0].long(), minlength=3) / 200_000
    # Standard errors are at most sqrt(0.25 / 200,000) = 0.0011.
    torch.testing.assert_close(shares, probabilities, atol=0.005, rtol=0.0)
    assert abs(float(actions[:, 2].mean()) - 0.5) < 0.005
    extreme = joint.sample(parameters[:2], torch.tensor([[40.0, 0.0, 40.0], [-40.0, 0.0, -40.0]]))
    assert extreme[:, 0].tolist() == [2.0, 0.0] and extreme[:, 2].tolist() == [0.0, 1.0]


def test_choices_alone_stay_integers() -> None:
    mapping = action_mapping(CHOICES)
    assert mapping.distribution.noise_kind == "uniform"
    actions = mapping.distribution.sample(torch.zeros(4, 5), torch.rand(4, 3))
    assert actions.dtype is torch.int64


@pytest.mark.parametrize("squash", [False, True])
def test_actions_are_elements_of_the_space(squash: bool) -> None:
    mapping = action_mapping(MIXED, squash=squash)
    assert isinstance(mapping, JointMapping)
    joint = mapping.distribution
    parameters = torch.randn((30, joint.parameter_size), generator=torch.Generator().manual_seed(1))
    noise = torch.randn((30, joint.noise_size), generator=torch.Generator().manual_seed(2))
    stored = joint.sample(parameters, noise).numpy()
    batch = mapping.to_environment(stored)
    rows = [row_of(batch, MIXED, i) for i in range(30)]
    assert all(MIXED.contains(row) for row in rows)
    assert flattened(batch, MIXED).shape == (30, 2 + 2 + 1 + 2)
    with pytest.raises(UsageError, match="needs finite bounds"):
        action_mapping(spaces.Tuple([spaces.Box(-np.inf, np.inf, (1,))]), squash=True)


def test_a_space_without_parts_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        action_mapping(spaces.Dict({}))


@pytest.mark.parametrize("space", [MIXED, CHOICES], ids=["mixed", "choices"])
def test_it_is_learned(space: Any) -> None:
    """Uniform choices are right in 1/3, 1/2 and (1/2 + 1/4) / 2, and a draw is a third of a range away."""
    settings = experiment(
        lambda: Identity(space), num_envs=8, rollout_timesteps=512, minibatch_size=128, epochs=6
    )
    settings = settings.with_changes({"ppo.learning_rate": 3e-3, "ppo.gamma": 0.0})
    ((_, metrics),) = train(settings, 25)
    first, last = metrics[0]["episode_return_mean"] / 8, metrics[-1]["episode_return_mean"] / 8
    assert first < 0.62 and last > first + 0.2, (first, last)
