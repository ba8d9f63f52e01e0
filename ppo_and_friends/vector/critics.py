"""What the critic sees of an environment with several agents, beyond its agent's own observation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.codec import Encoder
from ppo_and_friends.vector.team import Team

Array = NDArray[Any]


class CriticView(ABC):
    """Makes the critic's observations of those that were encoded.

    Attributes:
        space: Of one row.
    """

    space: spaces.Box

    @abstractmethod
    def __call__(self, named: Mapping[str, Array], seen: Array) -> Array:
        """The critic's observations [B, ...].

        Args:
            named: By name, [B, ...] each, as encoded.
            seen: [E, n] bool, which agents are there, so that their observations are of now.
        """


def critic_view(
    kind: Literal["own", "all", "state"],
    teams: Sequence[Team],
    encoders: Mapping[str, Encoder],
    agents: int,
) -> CriticView | None:
    """What the critic sees.

    Args:
        kind: As in `AgentSettings.critic`.
        teams: This rank's environments.
        encoders: Of an agent's observation, by name.
        agents: n, those whose rows these are.

    Returns:
        None if it sees what the actor does.

    Raises:
        UsageError: Observations are images, or an environment has no ``state()``.
    """
    own = "critic" if "critic" in encoders else "policy"
    if kind == "own":
        return None if own == "policy" else Own(encoders[own].space)
    space = encoders[own].space
    if len(space.shape) != 1:
        raise UsageError(f"agents.critic={kind} joins vectors, not observations of shape {space.shape}.")
    return EveryAgent(own, space, agents) if kind == "all" else State(own, space, teams)


class Own(CriticView):
    """The agent's own observation, of which the actor sees a part."""

    def __init__(self, space: spaces.Box) -> None:
        """Args: space: Of one row."""
        self.space = space

    def __call__(self, named: Mapping[str, Array], seen: Array) -> Array:
        """As it was encoded."""
        return named["critic"]


class EveryAgent(CriticView):
    """The agent's own observation, then the others' in order, from the next on; zeros for those not there."""

    def __init__(self, own: str, space: spaces.Box, agents: int) -> None:
        """Args: own: Name of the observation. space: Of one row. agents: n."""
        self._own = own
        self.space = _unbounded(space, agents * space.shape[0])
        # Row k is k, k + 1, ... modulo n: so the critic knows whose value it is asked for.
        self._order = (np.arange(agents)[:, None] + np.arange(agents)) % agents

    def __call__(self, named: Mapping[str, Array], seen: Array) -> Array:
        """[B, n * size]."""
        every = named[self._own].reshape(*seen.shape, -1) * seen[..., None]
        joined: Array = every[:, self._order].reshape(seen.size, -1)
        return joined.astype(self.space.dtype, copy=False)


class State(CriticView):
    """The agent's own observation, then the environment's state."""

    def __init__(self, own: str, space: spaces.Box, teams: Sequence[Team]) -> None:
        """Args: own: Name of the observation. space: Of one row. teams: Whose states."""
        self._own, self._teams = own, teams
        env: Any = teams[0].env
        try:
            declared = getattr(env, "state_space", None)
            if declared is None:
                env.reset(seed=0)
            shape = np.shape(env.state()) if declared is None else declared.shape
        except (AttributeError, NotImplementedError) as error:
            raise UsageError(
                "agents.critic=state: the environment has no state(); agents.critic=all joins the agents' "
                "observations."
            ) from error
        self._size = int(np.prod(shape))
        self.space = _unbounded(space, space.shape[0] + self._size)

    def __call__(self, named: Mapping[str, Array], seen: Array) -> Array:
        """[B, size of the observation + size of the state]."""
        states = np.empty((len(self._teams), self._size), self.space.dtype)
        for e, team in enumerate(self._teams):
            states[e] = team.state(self._size)
        rows = np.repeat(states, seen.shape[1], axis=0)
        return np.concatenate((named[self._own], rows), axis=1).astype(self.space.dtype, copy=False)


def _unbounded(space: spaces.Box, size: int) -> spaces.Box:
    dtype = np.float64 if space.dtype == np.float64 else np.float32
    return spaces.Box(-np.inf, np.inf, (size,), dtype)
