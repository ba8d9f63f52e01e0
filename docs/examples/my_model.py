"""A model: actor and critic share a residual block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.model import Model
from ppo_and_friends.settings.experiment import NetworkSettings


class Residual(Model):
    """For observations that are vectors."""

    def __init__(
        self,
        observation_space: spaces.Box,
        distribution: Distribution,
        settings: NetworkSettings,
        streams: Sequence[str],
        generator: torch.Generator,
    ) -> None:
        """Build the layers; of the settings, this model uses the width of the actor's first layer."""
        super().__init__(observation_space, distribution, settings, streams, generator)
        width = settings.actor_hidden[0]
        self.inputs = nn.Linear(observation_space.shape[0], width)
        self.block = nn.Sequential(nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.policy_head = PolicyHead(width, distribution, settings, generator)
        self.value_head = nn.Linear(width, len(self.streams))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Map [N, *obs] to the action distribution's parameters [N, P] and the values [N, S]."""
        features = self.inputs(observations)
        features = features + self.block(features)
        return self.policy_head(features), self.value_head(features)
