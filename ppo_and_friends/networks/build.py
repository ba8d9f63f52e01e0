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

ROWS = 2
"""Batch size for checking a user's model."""


def make_network(
    observation_space: spaces.Box,
    distribution: Distribution,
    settings: NetworkSettings,
    streams: Sequence[str],
    generator: torch.Generator,
    critic_space: spaces.Box | None = None,
) -> Model:
    """Create the network on the CPU; see `Model` for the arguments.

    Raises:
        UsageError: The model can't be found or created, or returns the wrong shapes.
    """
    if settings.model is None:
        if settings.memory is None:
            return ActorCritic(observation_space, distribution, settings, streams, generator, critic_space)
        network = RecurrentActorCritic(
            observation_space, distribution, settings, streams, generator, critic_space
        )
        network.fit_layers(generator)
        return network
    kind = find_part(settings.model, "model")
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
                "environment.critic_observations, or see Model.reads_critic."
            )
        more["critic_space"] = critic_space
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        try:
            model: Model = kind(observation_space, distribution, settings, streams, generator, **more)
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
    observations = torch.zeros((ROWS, *space.shape), dtype=dtype)
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
        if shape != [ROWS, size]:
            raise UsageError(
                f"Model {name!r}: {what} are {shape} for {ROWS} observations, not [{ROWS}, {size}]."
            )
