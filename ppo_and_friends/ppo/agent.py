"""What is learned: network and friends, fitted to an environment's spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.model import PRESENT, Model
from ppo_and_friends.ppo.acting_policy import ActingPolicy
from ppo_and_friends.ppo.hooks import Hooks
from ppo_and_friends.ppo.rollout import RewardStream


@dataclass
class Agent:
    """What is learned and saved: network and friends, fitted to an environment's spaces."""

    network: Model
    friends: Hooks
    mapping: ActionMapping
    streams: tuple[RewardStream, ...]
    space: spaces.Box
    """Of observations as the network sees them."""

    device: torch.device
    dtype: torch.dtype
    critic_space: spaces.Box | None = None
    """Of what the critic sees; None: the same."""

    mask_space: spaces.Box | None = None
    """Of the masks that say which actions are legal; None: all are."""

    @property
    def spaces(self) -> dict[str, spaces.Box]:
        """Of all observations as the network sees them, by name."""
        named = {"policy": self.space, "critic": self.critic_space, "action_mask": self.mask_space}
        if self.network.groups_agents:
            named[PRESENT] = spaces.Box(0, 1, (1,), np.bool_)  # type: ignore[arg-type]
        return {name: space for name, space in named.items() if space is not None}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; the tensors themselves, not copies."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        named |= {f"friends.{name}": tensor for name, tensor in self.friends.tensors().items()}
        return named

    def example(self, rows: int) -> Tensor:
        """Observations of zeros, [rows, *obs], as the network takes them."""
        observations = torch.zeros((rows, *self.space.shape), device=self.device)
        return observations.to(torch.uint8 if self.space.dtype == np.uint8 else self.dtype)

    def policy(self) -> ActingPolicy:
        """The agent as a plain object that acts."""
        return ActingPolicy(
            self.network,
            self.friends,
            self.mapping,
            device=self.device,
            dtype=self.dtype,
            masked=self.mask_space is not None,
        )
