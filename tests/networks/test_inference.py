"""Plain functions give bit for bit what the modules give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from ppo_and_friends.networks.actor_critic import ActorCritic, PolicyHead
from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian
from ppo_and_friends.networks.kernels.inference import flattened, inference_function
from ppo_and_friends.networks.layers import ACTIVATIONS
from ppo_and_friends.settings.experiment import FriendSpec, NetworkSettings, friend
from tests.friends.runs import build, experiment

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)
RAM = spaces.Box(0, 255, (16,), np.uint8)
IMAGE = spaces.Box(0, 255, (4, 36, 36), np.uint8)


def network(space: spaces.Box, distribution: Distribution, **settings: Any) -> ActorCritic:
    generator = torch.Generator().manual_seed(0)
    return ActorCritic(space, distribution, NetworkSettings(**settings), ["extrinsic"], generator)


@pytest.mark.parametrize("space", [VECTOR, RAM, IMAGE], ids=str)
@pytest.mark.parametrize("distribution", [Categorical((3, 2)), Gaussian(2)], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_policy_of_every_network(space: spaces.Box, distribution: Distribution, activation: str) -> None:
    net = network(space, distribution, activation=activation)
    space.seed(1)
    rows = torch.from_numpy(np.stack([space.sample() for _ in range(7)]))
    assert torch.equal(inference_function(net)(rows), net.policy(rows))


@pytest.mark.parametrize(
    "chosen",
    [
        friend("SplitObservations", exteroceptive=1),
        friend("SplitObservations", exteroceptive=(0, 2)),
        friend("StateDependentExploration"),
    ],
    ids=str,
)
def test_with_friends_that_change_the_network(chosen: FriendSpec) -> None:
    trainer = build(experiment([chosen]))
    rows = torch.randn(9, 3)
    assert torch.equal(inference_function(trainer.network)(rows), trainer.network.policy(rows))


def test_parameters_changed_in_place_are_seen() -> None:
    net = network(VECTOR, Gaussian(2))
    policy, rows = inference_function(net), torch.randn(3, 5)
    before = policy(rows)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    assert not torch.equal(policy(rows), before)
    assert torch.equal(policy(rows), net.policy(rows))


def test_a_hook_is_called() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    seen: list[torch.Tensor] = []
    layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    flattened(layers)(torch.zeros(1, 2))
    assert len(seen) == 1


class Residual(nn.Sequential):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + super().forward(inputs)


class Doubled(PolicyHead):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(features)


def test_a_subclass_that_computes_something_else_is_believed() -> None:
    net = network(VECTOR, Gaussian(2))
    net.actor = Residual(*net.actor[:1])
    net.actor[0] = nn.Linear(5, 5)
    net.policy_head.outputs = nn.Linear(5, 2)
    net.policy_head.__class__ = Doubled
    rows = torch.randn(3, 5)
    assert torch.equal(inference_function(net)(rows), net.policy(rows))
    assert torch.equal(flattened(net.actor)(rows), net.actor(rows))


def test_a_policy_of_the_users_own_is_used() -> None:
    class Constant(ActorCritic):
        def policy(self, observations: torch.Tensor) -> torch.Tensor:
            return torch.full((len(observations), 4), 0.5)

    generator = torch.Generator().manual_seed(0)
    net = Constant(VECTOR, Gaussian(2), NetworkSettings(), ["extrinsic"], generator)
    assert torch.equal(inference_function(net)(torch.zeros(2, 5)), torch.full((2, 4), 0.5))
