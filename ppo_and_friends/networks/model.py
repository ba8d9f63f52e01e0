"""The base class of models; the built-in one is `ActorCritic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.settings.experiment import NetworkSettings

Tensors: TypeAlias = Mapping[str, Tensor]
"""Observations by name: ``policy``, what the actor sees, and others where the environment has them."""

PRESENT, ACTIONS = "present", "actions"
"""Names of what a model sees besides, if it takes an environment's agents together."""


def begun(state: Tensor, starts: Tensor) -> Tensor:
    """A model's state [B, S], with zeros where ``starts`` [B] bool says that an episode begins."""
    return state.masked_fill(starts.unsqueeze(-1), 0.0) if state.shape[-1] else state


def legal(distribution: Distribution, parameters: Tensor, observations: Tensors) -> Tensor:
    """What a model computed from observations [..., *obs], restricted to actions that are legal there.

    Args:
        distribution: Of the actions.
        parameters: [..., P], as the model returns them.
        observations: If there is an ``action_mask`` [..., M] among them, it says what is legal.
    """
    masks = observations.get("action_mask")
    return parameters if masks is None else distribution.masked(parameters, masks)


def chosen(
    distribution: Distribution, parameters: Tensor, observations: Tensors, noise: Tensor | None
) -> Tensor:
    """Legal actions [B, A].

    Args:
        distribution: Of the actions.
        parameters: [B, P], as the model returns them.
        observations: As in `legal`.
        noise: [B, noise size], with which they are drawn; None: the most probable ones.
    """
    parameters = legal(distribution, parameters, observations)
    return distribution.mode(parameters) if noise is None else distribution.sample(parameters, noise)


class Model(nn.Module):
    """Policy and value function. Subclasses implement ``__init__`` and ``forward``.

    What trains and acts calls two methods: ``step`` for one step of acting, ``sequence`` for consecutive
    steps to learn from. Here they call ``policy`` and ``forward``, which see what is named ``policy`` alone.
    A model with memory overrides them and sets ``state_size``. One whose actions depend on each other
    overrides ``act``, which draws them, and sets ``groups_agents``.

    ``network.model`` names the class as ``module:Class``. It is created with the arguments below and moved to
    the run's device and precision. Its parameters are trained; parameters and buffers are saved.

    Attributes:
        distribution: The action distribution; its ``parameter_size`` is P.
        streams: Names of the S reward streams, each with a value output. The first is the environment's
            reward; friends such as ICM add others.
        convolutional: Whether torch uses all cores of the process; small layers are faster on one.
        state_size: S, numbers that the model carries from step to step; 0: it has no memory.
        policy_state_size: How many of these, the first ones, suffice to act.
        reads_critic: Whether ``sequence`` reads ``observations["critic"]``. Such a model takes the keyword
            argument ``critic_space``, the space of these, where there are any.
        groups_agents: Whether it takes the rows of an environment's agents that share it together: row
            g * n + k is agent k of group g, in acting and in minibatches. Such a model takes the keyword
            argument ``agents``, n. Its observations have two more names: `PRESENT` [..., 1] bool, whether the
            agent is there and has its turn, and, in ``sequence``, `ACTIONS` [L, N, A], what was done.
        group_size: n, rows that must not be taken apart; 1: each is by itself.
    """

    convolutional: bool = False
    state_size: int = 0
    policy_state_size: int = 0
    reads_critic: bool = False
    groups_agents: bool = False
    group_size: int = 1

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

    def step(self, observations: Tensors, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of acting.

        Args:
            observations: By name, [B, *obs] each.
            state: [B, S], as the step before left it; zeros where an episode begins. Or its first
                ``policy_state_size`` columns, where nothing is learned: the critic isn't needed then.

        Returns:
            Parameters of the action distribution [B, P], and the next state, of the same shape.
        """
        return self.policy(observations["policy"]), state

    def act(self, observations: Tensors, state: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step of acting, and what it does.

        Args:
            observations: By name, [B, *obs] each.
            state: As in ``step``.
            noise: [B, noise size], with which the actions are drawn; None: the most probable ones.

        Returns:
            Actions [B, A], and the next state.
        """
        parameters, state = self.step(observations, state)
        return chosen(self.distribution, parameters, observations, noise), state

    def sequence(self, observations: Tensors, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """L consecutive steps of N rows at once, as ``step`` goes through them one by one.

        Args:
            observations: By name, [L, N, *obs] each.
            state: [N, S], before the first step.
            starts: [L, N] bool, where the observation is an episode's first: there the state is zero.

        Returns:
            Parameters of the action distributions [L, N, P], and value outputs [L, N, number of streams].
        """
        seen = observations["policy"]
        parameters, values = self(seen.flatten(0, 1))
        return parameters.unflatten(0, seen.shape[:2]), values.unflatten(0, seen.shape[:2])
