"""All friends of a run, called in order; hooks that no friend overrides cost nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.rollout import RewardStream


class FriendGroup(Friend):
    """Several friends as one: each hook is called on every friend that has it, in the launcher's order.

    No hook is written out here: each hook's decorator says how the friends' results are combined.
    """

    def __init__(self, friends: Sequence[Friend]) -> None:
        """Take the friends in the order in which to call them.

        Raises:
            UsageError: Two friends have one name, or can't work together.
        """
        super().__init__()
        names = [friend.name for friend in friends]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"There are two friends named {twice[0]}: remove one, or give it another name.")
        for friend in friends:
            for other in friend.conflicts:
                if other in names or other in [type(each).__name__ for each in friends]:
                    raise UsageError(f"Friends {friend.name} and {other} can't work together: remove one.")
        self.critic_space: spaces.Box | None = None
        self.members = dict(zip(names, friends, strict=True))
        for hook, method in inspect.getmembers(Friend, inspect.isfunction):
            if hasattr(method, "combine"):
                setattr(self, hook, partial(method.combine, self.calls(hook)))

    def __iter__(self) -> Iterator[Friend]:
        """The friends in order."""
        return iter(self.members.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self.members)

    def calls(self, hook: str) -> tuple[Callable[..., Any], ...]:
        """A hook's methods of the friends that override it, in order."""
        return tuple(_labelled(friend, hook) for friend in self if friend.has(hook))

    @property
    def all_streams(self) -> tuple[RewardStream, ...]:
        """Reward streams of all friends. Two of one name raise UsageError."""
        streams = [stream for friend in self for stream in friend.streams]
        names = ["extrinsic", *(stream.name for stream in streams)]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"Two friends have a reward stream {name!r}: remove one of them.")
        return tuple(streams)

    def setup_all(self, context: FriendContext) -> spaces.Box:
        """Set up all; returns the observation space that the network gets, and sets ``critic_space``."""
        space, self.critic_space = context.observation_space, context.critic_space
        for friend in self:
            own = replace(context, observation_space=space, critic_space=self.critic_space)
            friend.setup(replace(own, friends=tuple(self)))
            space = friend.observation_space(space)
            if self.critic_space is not None:
                self.critic_space = friend.critic_observation_space(self.critic_space)
        self.build(space)
        return space

    def tensors(self) -> dict[str, Tensor]:
        """All friends' tensors, named ``friend.tensor``."""
        named = {friend.name: friend.tensors() for friend in self}
        return {f"{name}.{key}": tensor for name, own in named.items() for key, tensor in own.items()}


def check_ownership(friends: FriendGroup, network: nn.Module) -> None:
    """Refuse a friend with a module that would be neither trained, saved nor broadcast.

    Raises:
        UsageError: Names the friend and the attribute.
    """
    for friend in friends:
        known = {id(each) for module in (network, friend.state) for each in module.parameters()}
        for name, value in vars(friend).items():
            if isinstance(value, nn.Module) and any(id(each) not in known for each in value.parameters()):
                raise UsageError(
                    f"Friend {friend.name} has a module {name!r} that would be neither trained nor "
                    f"saved: write self.{name} = self.own({name!r}, ...)."
                )


def check_memory(friends: FriendGroup, network: Model) -> None:
    """Refuse friends that can't work with a model that has memory.

    Raises:
        UsageError: Names the friend.
    """
    for friend in friends:
        if network.state_size and not friend.works_with_memory:
            raise UsageError(
                f"{friend.name} can't work with a policy that has memory: use --without {friend.name}, or "
                "--set network.memory=none."
            )


def check_groups(friends: FriendGroup, network: Model) -> None:
    """Refuse friends that can't work with a model that takes an environment's agents together.

    Raises:
        UsageError: Names the friend.
    """
    for friend in friends:
        if network.groups_agents and not (friend.works_with_groups and not friend.has("replace_actions")):
            raise UsageError(
                f"{friend.name} can't work with {type(network).__name__}, whose agents decide together: "
                f"use --without {friend.name}."
            )


def check_tensors(friends: FriendGroup, device: torch.device | None) -> None:
    """Refuse friends that see an engine's data as arrays, where the engine keeps tensors on a device.

    Raises:
        UsageError: Names the friend.
    """
    for hook in ("transform", "transform_critic", "observe"):
        for friend in friends:
            if device is not None and friend.has(hook) and not friend.takes_tensors:
                raise UsageError(
                    f"{friend.name} works on NumPy arrays, but the environments' observations are tensors: "
                    f"use --without {friend.name}."
                )


def friends_of(agent: Agent) -> tuple[Friend, ...]:
    """An agent's friends in order; the agent itself knows them by their hooks alone."""
    return tuple(agent.friends) if isinstance(agent.friends, FriendGroup) else ()


def _labelled(friend: Friend, hook: str) -> Callable[..., Any]:
    """A friend's hook; names of losses and of metrics get the friend's name in front."""
    call: Callable[..., Any] = getattr(friend, hook)
    if hook == "loss":
        return lambda minibatch: {f"{friend.name}/{term}": loss for term, loss in call(minibatch).items()}
    if hook == "metrics":
        return lambda: {f"{friend.name}/{name}": float(np.asarray(number)) for name, number in call().items()}
    return call
