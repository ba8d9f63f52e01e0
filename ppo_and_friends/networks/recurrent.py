"""Actor and critic with memory: `ActorCritic` with an LSTM or a GRU before or behind the hidden layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppo_and_friends.networks.actor_critic import ActorCritic, fit_first_layer
from ppo_and_friends.networks.layers import linear
from ppo_and_friends.networks.memory import Division, Memory
from ppo_and_friends.networks.model import Tensors

Remember = Callable[[Tensor], Tensor]
"""Inputs [R, I] of a memory to its outputs [R, W]."""


class RecurrentActorCritic(ActorCritic):
    """Encoder, memory, hidden layers, head; with ``memory_place`` "after" the hidden layers come first.

    The state is that of the actor's memory, then that of the critic's, unless they share one.
    """

    def fit_layers(self, generator: torch.Generator) -> None:
        """Make the memory, and fit what stands before and behind it."""
        settings = self.settings
        assert settings.memory is not None
        self.before = settings.memory_place == "before"
        sizes = settings.memory_width, settings.memory_layers, settings.memory_span
        encoded = int(self.actor_encoder.features), int(self.critic_encoder.features)
        read = []
        for layers, features in zip((self.actor, self.critic), encoded, strict=True):
            if not self.before:
                fit_first_layer(layers, features, generator)
            last = [each.out_features for each in layers if isinstance(each, nn.Linear)][-1:]
            read.append(features if self.before else (features, *last)[-1])
        self.memory = Memory(settings.memory, read[0], *sizes, generator)
        self.critic_memory: Memory | None = None
        if not settings.memory_shared:
            self.critic_memory = Memory(settings.memory, read[1], *sizes, generator)
        elif not self.before:
            self.critic = nn.Sequential()
        if self.before:
            fit_first_layer(self.actor, settings.memory_width, generator)
            fit_first_layer(self.critic, settings.memory_width, generator)
        # A head reads the memory itself where no hidden layer stands between.
        heads = self.policy_head.outputs, self.value_head
        gains = settings.actor_output_gain, 1.0
        fitted = [
            head
            if self.before and len(layers)
            else linear(settings.memory_width, head.out_features, gain, generator)
            for head, layers, gain in zip(heads, (self.actor, self.critic), gains, strict=True)
        ]
        self.policy_head.outputs, self.value_head = fitted
        self.policy_state_size = self.memory.state_size
        critic_size = 0 if self.critic_memory is None else self.critic_memory.state_size
        self.state_size = self.policy_state_size + critic_size

    def step(self, observations: Tensors, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of acting; see `Model.step`."""
        parts: list[Tensor] = []

        def remember(memory: Memory, own: Tensor) -> Remember:
            def step(inputs: Tensor) -> Tensor:
                outputs, following = memory.step(inputs, own)
                parts.append(following)
                return outputs

            return step

        own, others = state[:, : self.policy_state_size], state[:, self.policy_state_size :]
        features = self.actor_encoder(observations["policy"])
        parameters = self.policy_head(self._actor(features, remember(self.memory, own))[0])
        if self.critic_memory is not None and others.shape[-1]:
            if not self.shared:
                features = self.critic_encoder(self.critic_sees(observations))
            self._critic_inputs(features, remember(self.critic_memory, others))
        return parameters, torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def sequence(self, observations: Tensors, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """L consecutive steps of N rows; see `Model.sequence`."""
        shape, division = starts.shape, Division(starts)

        def remember(memory: Memory, own: Tensor) -> Remember:
            def over_chunks(inputs: Tensor) -> Tensor:
                return memory.sequence(inputs.unflatten(0, shape), own, starts, division).flatten(0, 1)

            return over_chunks

        own, others = state[:, : self.policy_state_size], state[:, self.policy_state_size :]
        features = self.actor_encoder(observations["policy"].flatten(0, 1))
        acted, remembered = self._actor(features, remember(self.memory, own))
        if self.critic_memory is None:
            valued = self.critic(remembered)
        else:
            if not self.shared:
                features = self.critic_encoder(self.critic_sees(observations).flatten(0, 1))
            remembered = self._critic_inputs(features, remember(self.critic_memory, others))
            valued = self.critic(remembered) if self.before else remembered
        parameters, values = self.policy_head(acted), self.value_head(valued)
        return parameters.unflatten(0, shape), values.unflatten(0, shape)

    def _actor(self, features: Tensor, remember: Remember) -> tuple[Tensor, Tensor]:
        """What the policy's head reads, and the memory's outputs."""
        if self.before:
            remembered = remember(features)
            return self.actor(remembered), remembered
        remembered = remember(self.actor(features))
        return remembered, remembered

    def _critic_inputs(self, features: Tensor, remember: Remember) -> Tensor:
        """The outputs of the critic's memory."""
        return remember(features) if self.before else remember(self.critic(features))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """The first step of an episode: observations [N, *obs] to parameters [N, P] and values [N, S]."""
        rows = len(observations)
        state = self.value_head.weight.new_zeros((rows, self.state_size))
        starts = torch.ones((1, rows), dtype=torch.bool, device=observations.device)
        parameters, values = self.sequence({"policy": observations.unsqueeze(0)}, state, starts)
        return parameters[0], values[0]

    def policy(self, observations: Tensor) -> Tensor:
        """The first step of an episode, for the policy alone."""
        state = self.value_head.weight.new_zeros((len(observations), self.policy_state_size))
        parameters, _ = self.step({"policy": observations}, state)
        return parameters

    def values(self, observations: Tensor) -> Tensor:
        """The first step of an episode, for the critic alone."""
        outputs: Tensor = self(observations)[1]
        return outputs
