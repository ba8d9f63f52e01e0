"""The Multi-Agent Transformer: agents decide one after the other, each knowing what those before it do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.action_features import ActionFeatures
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.networks.attention import DecoderBlock, EncoderBlock
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.layers import HIDDEN_GAIN, VectorEncoder, linear
from ppo_and_friends.networks.model import ACTIONS, PRESENT, Model, Tensors, chosen
from ppo_and_friends.settings.experiment import NetworkSettings


class MultiAgentTransformer(Model):
    r"""Encoder of all agents' observations, decoder of their actions (arXiv:2205.14953, figure 2).

    With the agents' order fixed, the policy is a product, as their advantage is a sum (theorem 1):

    .. math:: \pi(a^{1:n} | o^{1:n}) = \prod_m \pi(a^m | o^{1:n}, a^{1:m-1})

    When acting, the decoder is run once for each agent, with the actions before it. When learning, these are
    known, and a causal mask makes one pass of all. An agent that isn't there is looked at by none but itself.
    The losses are PPO's for each agent (equations 4 and 5), with returns and advantages of its own.

    Shapes: G groups of n agents, D the width, F numbers that describe an action.
    """

    groups_agents = True

    def __init__(
        self,
        observation_space: spaces.Box,
        distribution: Distribution,
        settings: NetworkSettings,
        streams: Sequence[str],
        generator: torch.Generator,
        agents: int,
    ) -> None:
        """Build and initialise; see `Model`.

        Args:
            observation_space: Of vectors.
            distribution: Of an agent's actions.
            settings: ``attention_width``, ``attention_heads``, ``attention_layers`` and those of the head.
            streams: Names of the reward streams.
            generator: Source of the initial weights.
            agents: n.

        Raises:
            UsageError: Observations are images, or settings don't fit.
        """
        super().__init__(observation_space, distribution, settings, streams, generator)
        width, heads = settings.attention_width, settings.attention_heads
        if len(observation_space.shape) != 1:
            raise UsageError(
                f"MultiAgentTransformer takes vectors, not observations of shape {observation_space.shape}."
            )
        if settings.memory is not None:
            raise UsageError("MultiAgentTransformer has no memory: leave network.memory unset.")
        if width % heads:
            raise UsageError(
                f"network.attention_heads={heads} doesn't divide network.attention_width={width}."
            )
        self.group_size = agents
        size = observation_space.shape[0]
        self.reader = VectorEncoder(size, from_bytes=observation_space.dtype.kind == "u")
        self.observation_layer = _embedding(linear(size, width, HIDDEN_GAIN, generator))
        self.encoder = nn.ModuleList(
            EncoderBlock(width, heads, generator) for _ in range(settings.attention_layers)
        )
        self.value_head = _head(width, generator)
        self.value_head.append(linear(width, len(self.streams), 1.0, generator))
        self.action_features = ActionFeatures(distribution)
        # The first number says that nothing was done yet.
        self.action_layer = _embedding(linear(1 + self.action_features.size, width, HIDDEN_GAIN, generator))
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, generator) for _ in range(settings.attention_layers)
        )
        self.policy_layer = _head(width, generator)
        self.policy_head = PolicyHead(width, distribution, settings, generator)

    def sequence(self, observations: Tensors, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once, given what was done; see `Model.sequence`."""
        shape, groups = starts.shape, self._in_groups(observations)
        encoded = self._encode(groups)
        taken = self._described(groups[ACTIONS])
        parameters = self._decode(encoded, taken[:, :-1], groups[PRESENT])
        values: Tensor = self.value_head(encoded)
        return parameters.reshape(*shape, -1), values.reshape(*shape, -1)

    def act(self, observations: Tensors, state: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions of one agent after the other; see `Model.act`."""
        return self._one_by_one(observations, noise)[0], state

    def step(self, observations: Tensors, state: Tensor) -> tuple[Tensor, Tensor]:
        """As if those before take their most probable actions; see `Model.step`."""
        return self._one_by_one(observations, None)[1], state

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """As ``step``, of agents who are all there: [N, obs] to parameters [N, P] and values [N, S]."""
        present = observations.new_ones((len(observations), 1), dtype=torch.bool)
        named = {"policy": observations, PRESENT: present}
        values: Tensor = self.value_head(self._encode(self._in_groups(named)))
        return self._one_by_one(named, None)[1], values.flatten(0, 1)

    def _one_by_one(self, observations: Tensors, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions [B, A], by noise or the most probable ones, and parameters [B, P]."""
        groups, count = self._in_groups(observations), self.group_size
        present, encoded = groups[PRESENT], self._encode(groups)
        drawn_by = None if noise is None else noise.unflatten(0, (-1, count))
        actions: list[Tensor] = []
        parameters: list[Tensor] = []
        taken = self._described(present.new_zeros((len(present), 0, 1)))
        for k in range(count):
            last = self._decode(encoded[:, : k + 1], taken, present[:, : k + 1])[:, -1]
            own = {name: tensor[:, k] for name, tensor in groups.items()}
            action = chosen(self.distribution, last, own, None if drawn_by is None else drawn_by[:, k])
            actions.append(action)
            parameters.append(last)
            taken = self._described(torch.stack(actions, dim=1))
        return torch.stack(actions, dim=1).flatten(0, 1), torch.stack(parameters, dim=1).flatten(0, 1)

    def _in_groups(self, observations: Tensors) -> dict[str, Tensor]:
        """By name, [..., N, *obs] as [G, n, *obs]."""
        lengths = observations[PRESENT].dim() - 1
        return {
            name: tensor.flatten(0, lengths - 1).unflatten(0, (-1, self.group_size))
            for name, tensor in observations.items()
        }

    def _encode(self, groups: Tensors) -> Tensor:
        """[G, n, D], what all see."""
        present = groups[PRESENT].squeeze(-1)
        mask = _looks_at(present)
        seen = self.reader(groups["policy"].flatten(0, 1)).unflatten(0, present.shape)
        encoded: Tensor = self.observation_layer(seen)
        for block in self.encoder:
            encoded = block(encoded, mask)
        return encoded

    def _described(self, actions: Tensor) -> Tensor:
        """Actions [G, m, A] as [G, m + 1, 1 + F], behind a mark for the beginning."""
        count = actions.shape[1]
        weight = self.policy_head.outputs.weight
        described = weight.new_zeros((len(actions), count + 1, 1 + self.action_features.size))
        described[:, 0, 0] = 1.0
        if count:
            features = self.action_features(actions.flatten(0, 1)).to(weight.dtype)
            described[:, 1:, 1:] = features.unflatten(0, (-1, count))
        return described

    def _decode(self, encoded: Tensor, taken: Tensor, present: Tensor) -> Tensor:
        """Parameters [G, m, P] of the first m agents.

        Args:
            encoded: [G, m, D], what they see.
            taken: [G, m, 1 + F], the mark, then the actions of the first m - 1.
            present: [G, m, 1] bool.
        """
        count = encoded.shape[1]
        causal = torch.ones((count, count), dtype=torch.bool, device=encoded.device).tril()
        # At first place k holds the action of agent k - 1; behind a block also what agent k sees.
        there = present.squeeze(-1)
        acted = torch.cat((torch.ones_like(there[:, :1]), there[:, :-1]), dim=1)
        mask = causal & acted.unsqueeze(1)
        decoded: Tensor = self.action_layer(taken)
        for block in self.decoder:
            decoded = block(decoded, encoded, mask)
            mask = causal & _looks_at(there)
        parameters: Tensor = self.policy_head(self.policy_layer(decoded))
        return parameters


def _looks_at(present: Tensor) -> Tensor:
    """[G, n, n] bool: all look at those who are there [G, n], and at themselves."""
    itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    return present.unsqueeze(1) | itself


def _embedding(layer: nn.Linear) -> nn.Sequential:
    return nn.Sequential(layer, nn.GELU(), nn.LayerNorm(layer.out_features))


def _head(width: int, generator: torch.Generator) -> nn.Sequential:
    return nn.Sequential(linear(width, width, HIDDEN_GAIN, generator), nn.GELU(), nn.LayerNorm(width))
