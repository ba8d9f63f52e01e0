"""What is learned: network and friends, fitted to an environment's spaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.action_mapping import ActionMapping
from ppo_and_friends.communicator import Communicator
from ppo_and_friends.devices import choose_device
from ppo_and_friends.experiment import Experiment
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.friend import FriendContext
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.policy import Policy
from ppo_and_friends.randomness import Purpose, Randomness
from ppo_and_friends.rollout import RewardStream
from ppo_and_friends.vector.protocol import Layout


@dataclass
class Agent:
    """What is learned and saved: network and friends, fitted to an environment's spaces."""

    network: ActorCritic
    friends: FriendGroup
    mapping: ActionMapping
    streams: tuple[RewardStream, ...]
    space: spaces.Box
    """Of observations as the network sees them."""

    device: torch.device
    dtype: torch.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; the tensors themselves, not copies."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for friend in self.friends:
            for name, tensor in friend.state_dict().items():
                named[f"friends.{friend.name}.{name}"] = tensor
        return named

    def example(self, rows: int) -> Tensor:
        """Observations of zeros, [rows, *obs], as the network takes them."""
        observations = torch.zeros((rows, *self.space.shape), device=self.device)
        return observations.to(torch.uint8 if self.space.dtype == np.uint8 else self.dtype)

    def policy(self) -> Policy:
        """The agent as a plain object that acts."""
        return Policy(self.network, self.friends, self.mapping, device=self.device, dtype=self.dtype)


def build_agent(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    communicator: Communicator,
    layout: Layout,
    steps: int,
    folder: Path | None = None,
    declared_space: spaces.Space[Any] | None = None,
) -> Agent:
    """Make the network and the friends, equal on all ranks.

    Args:
        experiment: Every setting.
        observation_space: Of one environment, encoded.
        action_space: Of one environment.
        communicator: Collectives are made.
        layout: Which environments are this rank's.
        steps: T, the rollout's length.
        folder: Where the run is kept, for friends that write files; None: nowhere.
        declared_space: Of one environment's observations, not encoded; None: unknown.

    Raises:
        UsageError: Spaces, network or friends don't fit together.
    """
    settings = experiment.network
    dtype = torch.float64 if experiment.precision == "float64" else torch.float32
    randomness = Randomness(experiment.random_seed)
    mapping = ActionMapping(action_space, squash=settings.squash)
    images = settings.encoder == "nature_cnn" or len(observation_space.shape) == 3
    device = choose_device(experiment.device, communicator, convolutions=images)
    friends = FriendGroup([make_friend(spec) for spec in experiment.friends])
    space = friends.setup(
        FriendContext(
            experiment=experiment,
            communicator=communicator,
            observation_space=observation_space,
            action_space=action_space,
            distribution=mapping.distribution,
            layout=layout,
            steps=steps,
            randomness=randomness,
            device=device,
            dtype=dtype,
            environment_space=observation_space,
            declared_space=declared_space,
            folder=folder,
        )
    )
    extrinsic = RewardStream("extrinsic", experiment.ppo.discount, experiment.ppo.trace_decay)
    streams = (extrinsic, *friends.streams)
    generator = torch.Generator().manual_seed(randomness.integer(Purpose.INITIALISATION))
    network = ActorCritic(
        space, mapping.distribution, settings, [stream.name for stream in streams], generator
    ).to(device, dtype)
    network = friends.adapt(network)
    agent = Agent(network, friends, mapping, streams, space, device, dtype)
    for tensor in agent.tensors().values():
        broadcast_(tensor, communicator)
    friends.attach(agent)
    return agent


def broadcast_(tensor: Tensor, communicator: Communicator) -> None:
    """Replace a tensor, in place, by rank 0's."""
    if communicator.size == 1:
        return
    flat = tensor.detach().cpu().flatten().clone()
    communicator.broadcast_(flat.numpy())
    tensor.data.copy_(flat.view(tensor.shape))
