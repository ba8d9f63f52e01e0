"""The policy and the value heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.common.images import is_image
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.layers import HIDDEN_GAIN, NatureCNN, VectorEncoder, linear, mlp
from ppo_and_friends.networks.model import Model, Tensors
from ppo_and_friends.settings.experiment import NetworkSettings


def reads_images(space: spaces.Box, settings: NetworkSettings) -> bool:
    """Whether the built-in network has convolutions for encoded observations of this space."""
    return {"nature_cnn": True, "mlp": False, "auto": is_image(space)}[settings.encoder]


class PolicyHead(nn.Module):
    """From features to the parameters of an action distribution."""

    def __init__(
        self, features: int, distribution: Distribution, settings: NetworkSettings, generator: torch.Generator
    ) -> None:
        """Build for ``features`` inputs."""
        super().__init__()
        self.outputs = linear(features, distribution.output_size, settings.actor_output_gain, generator)
        self.log_std: nn.Parameter | None = None  # of Gaussians: all that doesn't depend on the observation
        state_independent = distribution.parameter_size - distribution.output_size
        if state_independent:
            self.log_std = nn.Parameter(torch.full((state_independent,), float(settings.log_std_init)))

    def forward(self, features: Tensor) -> Tensor:
        """[N, features] to [N, P]."""
        outputs: Tensor = self.outputs(features)
        if self.log_std is None:
            return outputs
        return torch.cat((outputs, self.log_std.expand(*outputs.shape[:-1], -1)), dim=-1)


def fit_first_layer(layers: nn.Sequential, features: int, generator: torch.Generator) -> bool:
    """Give hidden layers another number of inputs, with new weights; False: there are none."""
    if not len(layers):
        return False
    first = layers[0]
    assert isinstance(first, nn.Linear)
    layers[0] = linear(features, first.out_features, HIDDEN_GAIN, generator)
    return True


class ActorCritic(Model):
    """Actor and critic, with one value output for each reward stream.

    A friend may replace ``actor_encoder`` and ``critic_encoder`` (the same object when shared) by
    modules with as many ``features``.
    """

    reads_critic = True

    def __init__(
        self,
        observation_space: spaces.Box,
        distribution: Distribution,
        settings: NetworkSettings,
        streams: Sequence[str],
        generator: torch.Generator,
        critic_space: spaces.Box | None = None,
    ) -> None:
        """Build and initialise.

        Args:
            observation_space: Of encoded observations: a flat vector or an image.
            distribution: What the policy draws from.
            settings: Widths, activation, sharing.
            streams: Names of the reward streams, one value output each.
            generator: Source of the initial weights.
            critic_space: Of what the critic sees instead; None: the same.

        Raises:
            UsageError: The network doesn't fit the observations.
        """
        super().__init__(observation_space, distribution, settings, streams, generator)
        self.settings = settings
        image = reads_images(observation_space, settings)
        self.convolutional = image
        apart = critic_space is not None
        self.shared = image and not apart if settings.shared is None else settings.shared
        if apart and (self.shared or settings.memory_shared):
            raise UsageError(
                "Actor and critic see different observations, so they can't share layers: "
                "set network.shared and network.memory_shared to false."
            )
        self.actor_encoder = self._encoder(observation_space, image, settings, generator)
        self.critic_encoder = (
            self.actor_encoder
            if self.shared
            else self._encoder(critic_space or observation_space, image and not apart, settings, generator)
        )
        features = int(self.actor_encoder.features)
        critic_features = int(self.critic_encoder.features)
        # Behind a shared encoder that is deep already (the CNN), hidden layers are optional.
        actor_widths = () if image else settings.actor_hidden
        critic_widths = () if image and not apart else settings.critic_hidden
        self.actor = mlp(features, actor_widths, settings.activation, generator)
        self.critic = mlp(critic_features, critic_widths, settings.activation, generator)
        self.policy_head = PolicyHead((features, *actor_widths)[-1], distribution, settings, generator)
        self.value_head = linear((critic_features, *critic_widths)[-1], len(self.streams), 1.0, generator)

    @staticmethod
    def _encoder(
        space: spaces.Box, image: bool, settings: NetworkSettings, generator: torch.Generator
    ) -> NatureCNN | VectorEncoder:
        from_bytes = space.dtype == "uint8"
        if image:
            return NatureCNN(
                space.shape,
                from_bytes=from_bytes,
                generator=generator,
                half_precision=settings.half_precision,
            )
        size = 1
        for length in space.shape:
            size *= length
        return VectorEncoder(size, from_bytes=from_bytes)

    def fit_layers(self, generator: torch.Generator) -> None:
        """Fit the layers behind the encoders to their ``features``, by new weights of the first ones."""
        features = int(self.actor_encoder.features)
        if not fit_first_layer(self.actor, features, generator):
            # Where nothing is hidden in between, it is the head itself that reads the features.
            size, gain = self.policy_head.outputs.out_features, self.settings.actor_output_gain
            self.policy_head.outputs = linear(features, size, gain, generator)
        features = int(self.critic_encoder.features)
        if not fit_first_layer(self.critic, features, generator):
            self.value_head = linear(features, self.value_head.out_features, 1.0, generator)

    def policy(self, observations: Tensor) -> Tensor:
        """Observations [N, *obs] to distribution parameters [N, P]."""
        parameters: Tensor = self.policy_head(self.actor(self.actor_encoder(observations)))
        return parameters

    @staticmethod
    def critic_sees(observations: Tensors) -> Tensor:
        """Of observations by name, those for the critic."""
        return observations["critic"] if "critic" in observations else observations["policy"]

    def values(self, observations: Tensor) -> Tensor:
        """Observations [N, *obs] to the value outputs [N, S]."""
        outputs: Tensor = self.value_head(self.critic(self.critic_encoder(observations)))
        return outputs

    def sequence(self, observations: Tensors, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Steps without memory; see `Model.sequence`."""
        if "critic" not in observations:
            return super().sequence(observations, state, starts)
        parameters = self.policy(observations["policy"].flatten(0, 1))
        outputs = self.values(observations["critic"].flatten(0, 1))
        return parameters.unflatten(0, starts.shape), outputs.unflatten(0, starts.shape)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [N, *obs] to policy parameters [N, P] and value outputs [N, S]."""
        if not self.shared:
            return self.policy(observations), self.values(observations)
        features = self.actor_encoder(observations)
        return self.policy_head(self.actor(features)), self.value_head(self.critic(features))
