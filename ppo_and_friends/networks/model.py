"""The base class of models; the built-in one is `ActorCritic`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.settings.experiment import NetworkSettings


class Model(nn.Module):
    """Policy and value function. Subclasses implement ``__init__`` and ``forward``.

    ``network.model`` names the class as ``module:Class``. It is created with the arguments below and moved to
    the run's device and precision. Its parameters are trained; parameters and buffers are saved.

    Attributes:
        distribution: The action distribution; its ``parameter_size`` is P.
        streams: Names of the S reward streams, each with a value output. The first is the environment's
            reward; friends such as ICM add others.
        convolutional: Whether torch uses all cores of the process; small layers are faster on one.
    """

    convolutional: bool = False

    def __init__(
        self,
        observation_space: spaces.Box,
        distribution: Distribution,
        settings: NetworkSettings,
        streams: Sequence[str],
        generator: torch.Generator,
    ) -> None:
        """Build and initialise; subclasses call this first.

        Torch's global generator is seeded while a model is created, so that the default initialisation of
        ``nn.Linear`` and other layers follows from the run's seed.

        Args:
            observation_space: Observations after all friends: a flat vector of floats, or an image
                [channels, height, width] of type uint8.
            distribution: The action distribution. ``networks.actor_critic.PolicyHead`` computes its
                parameters from features.
            settings: The experiment's ``network`` settings, which a model may use or ignore.
            streams: Names of the reward streams.
            generator: A source of random initial weights.
        """
        super().__init__()
        self.distribution = distribution
        self.streams = tuple(streams)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the action distribution and the values.

        Args:
            observations: [N, *obs].

        Returns:
            Parameters of the action distribution [N, P], and value outputs [N, S].
        """
        raise NotImplementedError

    def policy(self, observations: Tensor) -> Tensor:
        """Map observations [N, *obs] to parameters [N, P]; override it if ``forward`` does more work."""
        parameters: Tensor = self(observations)[0]
        return parameters
