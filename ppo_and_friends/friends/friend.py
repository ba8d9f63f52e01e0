"""The protocol of friends: plug-ins that change what PPO learns from, or how.

A friend overrides the hooks it needs (``ppo/hooks.py``); the others do nothing and cost nothing. What it
must remember is a parameter or a buffer of its ``state``, which makes it part of checkpoints, of the
broadcast at the start and of the check that all ranks agree.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.randomness import Purpose
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.context import FriendContext
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Hooks, all_of, combined_by, pipe
from ppo_and_friends.ppo.rollout import RewardStream

__all__ = ["Friend", "FriendContext"]

Array = NDArray[Any]
Part = TypeVar("Part", bound=nn.Module)


class Friend(Hooks):
    """Base class of all friends. Subclasses take their settings as typed keyword arguments."""

    state: nn.Module
    """What is saved, broadcast and checked: parameters and buffers, by `own` and `statistic`."""

    streams: tuple[RewardStream, ...] = ()
    """Reward streams it brings, each with a value head of its own. Set by the end of ``setup``."""

    learning_rate: float | None = None
    """Adam step size of its own parameters; None: the same as PPO's."""

    only_watches: bool = False
    """Whether it changes nothing about what is learned: it may then join or leave a run that is resumed."""

    reported: tuple[Metric, ...] = ()
    """What ``metrics`` returns and what the terms of ``loss`` are, for the documentation."""

    source: str = ""
    """The paper it comes from."""

    conflicts: tuple[str, ...] = ()
    """Names of friends that can't be in a run with it; saying so on one side is enough."""

    works_with_memory: bool = True
    """Whether it supports models with memory. A friend that runs the network itself usually doesn't."""

    works_with_groups: bool = True
    """Whether it supports models that take an environment's agents together (`Model.groups_agents`). A friend
    that runs the network itself, or replaces what it does, doesn't."""

    takes_tensors: bool = False
    """Whether ``transform``, ``transform_critic`` and ``observe`` work on tensors, too, which engines on a
    device have. Only a friend that has one of these must say so."""

    context: FriendContext

    def __init__(self) -> None:
        """Subclasses with settings call this first."""
        self.state = nn.Module()

    @property
    def name(self) -> str:
        """Unique in the run; the key of its state in checkpoints."""
        return type(self).__name__

    def has(self, hook: str) -> bool:
        """Whether it overrides a hook."""
        return getattr(type(self), hook) is not getattr(Friend, hook)

    def setup(self, context: FriendContext) -> None:
        """Called once, before the network exists, with the space that earlier friends left."""
        self.context = context

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """Called once after setup; what ``transform`` makes of the space."""
        return space

    def critic_observation_space(self, space: spaces.Box) -> spaces.Box:
        """Called once after setup, if the critic sees more; what ``transform_critic`` makes of the space."""
        return space

    @combined_by(all_of)
    def build(self, space: spaces.Box) -> None:
        """Called once after all setups, with the space of a rollout's observations; make networks here."""

    @combined_by(pipe)
    def adapt(self, network: Model) -> Model:
        """Called once, before the optimizer exists; may change or wrap the network."""
        return network

    @combined_by(all_of)
    def attach(self, agent: Agent) -> None:
        """Called once, when network and friends are complete; for friends that use the whole policy."""

    def reads_images(self, space: spaces.Box) -> bool:
        """Whether it has convolutions of its own for encoded observations of ``space``.

        Called before ``setup``: the device that is chosen by itself depends on it.
        """
        return False

    def built_in(self, network: Model) -> ActorCritic:
        """The built-in network, for a friend that modifies parts which other models don't have.

        Raises:
            UsageError: The run uses another model.
        """
        if not isinstance(network, ActorCritic):
            raise UsageError(
                f"{self.name} modifies the built-in network and can't be used with the model "
                f"{type(network).__name__}: remove one of them (--without {self.name})."
            )
        return network

    def statistic(self, name: str, value: NDArray[np.float64] | Tensor) -> Tensor:
        """Make a float64 buffer for statistics: it is saved, broadcast and checked. Change it in place.

        Unlike other buffers it keeps its precision when the networks are float32.
        """
        tensor = torch.as_tensor(value, dtype=torch.float64)
        self.state.register_buffer(name, tensor)
        return tensor

    def own(self, name: str, module: Part) -> Part:
        """Take a module as this friend's own: its parameters are trained, and it is saved with the run."""
        self.state.add_module(name, module)
        return module

    def why_finished(self) -> str:
        """The reason for ending the training, once ``finished`` returned True."""
        return f"{self.name} ended the training"

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers of ``state`` by name; the tensors themselves."""
        return dict(self.state.state_dict())

    def rows(self) -> dict[str, Array]:
        """What it remembers of each row, [B, ...] by name; saved with a run that resumes exactly.

        What isn't kept by row is a parameter or a buffer of ``state``.
        """
        return {}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on from what ``rows`` returned, when such a run is resumed; copy what is kept."""

    def generator(self, *position: int) -> np.random.Generator:
        """This friend's own random generator at a position (up to three numbers, the last below 2^32).

        Put the global environment index in it where environments must not depend on the layout.
        """
        first, second, third = (*position, *(0,) * (3 - len(position)))
        place = (zlib.crc32(self.name.encode()) << 32) | third
        return self.context.randomness.generator(Purpose.FRIENDS, first, second, place)

    def weight_generator(self) -> torch.Generator:
        """Source of the initial weights of a friend's networks, the same on all ranks."""
        return torch.Generator().manual_seed(int(self.generator().integers(2**62)))
