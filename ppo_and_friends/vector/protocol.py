"""The data plane: what every backend implements, and what it hands over at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import torch
from gymnasium import spaces

Data: TypeAlias = Any
"""A NumPy array, or a tensor on the engine's device: of one kind in everything that an engine returns."""

Observations: TypeAlias = Mapping[str, Data]
"""``policy`` [B, *obs], what the actor sees. Only where there are any: ``critic`` [B, *obs], all that the
critic sees, ``action_mask`` [B, *mask] bool, True for the actions that are legal, and of several agents
`PRESENT` [B, 1] bool, whether the agent is there, and has its turn; where an episode is over for all,
whether it was."""

PRESENT = "present"

NO_SPACES: Mapping[str, spaces.Box] = MappingProxyType({})
"""`VectorEnv.other_spaces` of an engine that returns ``policy`` alone."""


@dataclass(frozen=True)
class Task:
    """What an environment is asked for in one training episode; nothing: to be as it is.

    It is the whole of it: what an earlier task changed and this one doesn't name is as it was at first.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Values of ``env.unwrapped``'s attributes, by dotted name (``gravity``, ``model.opt.timestep``)."""

    scales: Mapping[str, float] = field(default_factory=dict)
    """Factors for attributes, by dotted name, after ``attributes``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """For ``reset(options=...)``."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """For ``gymnasium.make``, beside the settings'. Where they change, the environment is made anew."""

    def but(self, other: Task) -> Task:
        """This task with all that another one names, which wins."""
        both = {each.name: {**getattr(self, each.name), **getattr(other, each.name)} for each in fields(self)}
        return Task(**both)


TaskOf = Callable[[int], Task]
"""Called by an engine once before each episode, with the row that is reset."""


@dataclass(slots=True)
class VectorStep:
    """The result of one step of B rows. The next step may overwrite the data; copy to keep them.

    A row is an environment (or an agent in one). Automatic resets follow Gymnasium's next-step mode: the step
    after an episode's end ignores the row's action and resets it instead. That step isn't ``active``, its
    reward is 0, and its observation is the first one of the new episode.
    """

    observations: Observations
    """By name, [B, ...] each; where an episode has ended, its true final observation."""

    rewards: Data
    """[B] float, the rewards to train on (in Atari, clipped to their sign if the settings say so)."""

    terminated: Data
    """[B] bool, whether the episode ended in a terminal state, whose value is 0. Excludes ``truncated``."""

    truncated: Data
    """[B] bool, whether the episode was truncated without having terminated."""

    active: Data
    """[B] bool, whether this step was experience; False: an automatic reset, excluded from training."""

    episode_starts: Data
    """[B] bool, whether the observation is the first one of an episode."""

    true_rewards: Data
    """[B] float, the environments' own, neither clipped nor scaled; returns are sums of them."""

    finished: Data
    """[B] bool, whether a whole episode ended (in Atari a game, not a life); its return is then complete."""

    waiting: Data | None = None
    """[B] bool, where an agent took part, but did nothing, since it was another's turn. It isn't ``active``;
    its reward is a consequence of its last action, and its episode can end. None: nobody ever waits."""

    infos: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Row to the numbers in its environment's info, such as ``is_success``, where a whole episode ended."""


def agents_of(envs: Any) -> tuple[str, ...]:
    """The agents of each environment of a `VectorEnv`, by name; empty if there is a single one.

    With n of them, row e * n + k is agent k of environment e.
    """
    return getattr(envs, "agents", ())


class VectorEnv(Protocol):
    """The B rows of one rank, stepped together, with observations encoded as arrays or tensors.

    An engine whose environments can be given tasks has an attribute ``task_of: TaskOf | None`` besides. One
    whose environments' states can be saved exactly has ``get_states()``, which returns a state (bytes) for
    each environment, and ``set_states(states)``, which sets them after a reset, so that all that follows is
    as it would have been.
    """

    num_envs: int
    """B, the number of this rank's rows: environments, or agents in them (see `agents_of`)."""

    observation_space: spaces.Box
    """Encoded space of ``policy`` for one row: a flat vector (float or uint8) or a uint8 image."""

    other_spaces: Mapping[str, spaces.Box]
    """Encoded spaces of the other observations, by name; usually there are none."""

    action_space: spaces.Space[Any]
    """Action space of one environment, as the environment itself declares it."""

    @property
    def device(self) -> torch.device | None:
        """Where its tensors live; None: it takes and returns NumPy arrays."""

    def reset(self, seed: int) -> Observations:
        """Reset every environment; this rank's row i is seeded with ``seed + i``.

        Agents in one environment share the seed of its first row.

        Returns:
            By name, [B, ...] each. All of them are the first ones of their episodes.
        """
        ...

    def step(self, actions: Data) -> VectorStep:
        """Step all environments.

        Args:
            actions: [B, *action shape], elements of ``action_space``.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        ...

    def close(self) -> None:
        """Release all processes, threads and windows."""
        ...
