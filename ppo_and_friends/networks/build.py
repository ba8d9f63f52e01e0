"""Creates an experiment's network: the built-in one, or a user's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from ppo_and_friends.common.objects import described
from ppo_and_friends.common.plugins import find_part
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.model import Model
from ppo_and_friends.networks.recurrent import RecurrentActorCritic
from ppo_and_friends.settings.experiment import NetworkSettings

BUILT_IN = {"MultiAgentTransformer": "ppo_and_friends.networks.multi_agent_transformer"}
"""Names of models besides the usual network, and the modules that they are in."""

GROUPS = 2
"""Batch size for checking a user's model, in groups of rows."""


def make_network(
    observation_space: spaces.Box,
    distribution: Distribution,
    settings: NetworkSettings,
    streams: Sequence[str],
    generator: torch.Generator,
    critic_space: spaces.Box | None = None,
    agents: int = 0,
) -> Model:
    """Create the network on the CPU; see `Model`.

    Args:
        observation_space: As the model gets it.
        distribution: Of the actions.
        settings: The experiment's ``network`` settings.
        streams: Names of the reward streams.
        generator: A source of random initial weights.
        critic_space: Of what the critic alone sees; None: nothing.
        agents: How many of an environment share the network; 0: there is a single one.

    Raises:
        UsageError: The model can't be found or created, returns the wrong shapes, or is for several agents.
    """
    if settings.model is None:
        if settings.memory is None:
            return ActorCritic(observation_space, distribution, settings, streams, generator, critic_space)
        network = RecurrentActorCritic(
            observation_space, distribution, settings, streams, generator, critic_space
        )
        network.fit_layers(generator)
        return network
    kind = find_part(settings.model, "model", BUILT_IN)
    if not (isinstance(kind, type) and issubclass(kind, Model)):
        raise UsageError(
            f"{settings.model!r} is not a model: it must be a class derived from "
            "ppo_and_friends.networks.model.Model."
        )
    more: dict[str, Any] = {}
    if critic_space is not None:
        if not kind.reads_critic:
            raise UsageError(
                f"Model {settings.model!r} doesn't read what the critic alone sees: leave out "
                "environment.critic_observations and agents.critic, or see Model.reads_critic."
            )
        more["critic_space"] = critic_space
    if kind.groups_agents:
        if not agents:
            raise UsageError(f"Model {settings.model!r} is for environments with several agents.")
        more["agents"] = agents
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        try:
            model: Model = kind(observation_space, distribution, settings, streams, generator, **more)
            if kind.groups_agents and model.group_size != agents:
                raise UsageError(
                    f"Model {settings.model!r} takes agents together: its group_size must be how many share "
                    f"it, {agents}, not {model.group_size}."
                )
            _check(model, settings.model, observation_space, distribution, len(streams))
        except PPOError:
            raise
        except Exception as error:  # third-party code can raise anything
            raise UsageError(
                f"Model {settings.model!r} fails on observations {list(observation_space.shape)}: "
                f"{described(error)}."
            ) from error
    return model


def _check(model: Model, name: str, space: spaces.Box, distribution: Distribution, streams: int) -> None:
    """Call a model on observations of zeros, and reject wrong output shapes."""
    dtype = torch.uint8 if space.dtype == np.uint8 else torch.float32
    rows = GROUPS * model.group_size
    observations = torch.zeros((rows, *space.shape), dtype=dtype)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(observations)
        if not (isinstance(outputs, tuple) and len(outputs) == 2):
            raise UsageError(f"Model {name!r}: forward must return (policy parameters, value outputs).")
        named = {
            "forward's policy parameters": (outputs[0], distribution.parameter_size),
            "forward's value outputs": (outputs[1], streams),
            "policy's parameters": (model.policy(observations), distribution.parameter_size),
        }
    model.train(was_training)
    for what, (tensor, size) in named.items():
        shape = list(getattr(tensor, "shape", ()))
        if shape != [rows, size]:
            raise UsageError(
                f"Model {name!r}: {what} are {shape} for {rows} observations, not [{rows}, {size}]."
            )
