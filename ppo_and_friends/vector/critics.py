"""What the critic sees of an environment with several agents, beyond its agent's own observation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.several_agents import AgentSettings
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.codec import BadObservationError, Encoder
from ppo_and_friends.vector.parallel import without_mask
from ppo_and_friends.vector.team import Team
from ppo_and_friends.vector.teams import TeamsStep

Array = NDArray[Any]


class CriticView(ABC):
    """Makes the critic's observations of those that were encoded.

    Attributes:
        space: Of one row.
    """

    space: spaces.Box

    @abstractmethod
    def __call__(self, named: Mapping[str, Array], latest: TeamsStep) -> Array:
        """The critic's observations [B, ...].

        Args:
            named: By name, [B, ...] each, as encoded.
            latest: What the environments gave.
        """

    def reset(self, seed: int) -> None:  # noqa: B027
        """Before all environments are reset, environment e with ``seed + e * n``."""

    def remembered(self, e: int) -> Any:
        """What it goes on from in environment e, as plain data; None: nothing."""
        return None

    def recall(self, e: int, remembered: Any) -> None:  # noqa: B027
        """Go on from what ``remembered`` returned."""


def critic_view(
    settings: AgentSettings,
    teams: Sequence[Team],
    encoders: Mapping[str, Encoder],
    columns: Sequence[int],
    masks: str,
) -> CriticView | None:
    """What the critic sees.

    Args:
        settings: What agents share.
        teams: This rank's environments.
        encoders: Of an agent's observation, by name.
        columns: Places of the n agents whose rows these are among those of an environment.
        masks: The setting ``environment.action_masks``.

    Returns:
        None if it sees what the actor does.

    Raises:
        UsageError: Observations are images, an environment has no ``state()``, or nothing can be shuffled.
    """
    own, kind = "critic" if "critic" in encoders else "policy", settings.critic
    if settings.shuffle and kind not in ("all", "environment"):
        raise UsageError(
            f"agents.shuffle is for a critic that sees other agents: set agents.critic to all, not {kind}."
        )
    if kind == "own":
        return None if own == "policy" else Own(encoders[own].space)
    space = encoders[own].space
    _check_vector(kind, space)
    if kind == "state":
        return State(own, space, teams, len(columns))
    every = EveryAgent(own, space, len(teams), columns, shuffle=settings.shuffle)
    return every if kind == "all" else WholeEnvironment(every, teams, columns, masks)


def _check_vector(kind: str, space: spaces.Box) -> None:
    if len(space.shape) != 1:
        raise UsageError(f"agents.critic={kind} joins vectors, not observations of shape {space.shape}.")


class Own(CriticView):
    """The agent's own observation, of which the actor sees a part."""

    def __init__(self, space: spaces.Box) -> None:
        """Args: space: Of one row."""
        self.space = space

    def __call__(self, named: Mapping[str, Array], latest: TeamsStep) -> Array:
        """As it was encoded."""
        return named["critic"]


class EveryAgent(CriticView):
    """The agent's own observation, then the others' of its policy; zeros for those not there.

    They follow from the next on, or in an order that is drawn for each environment's episode.
    """

    def __init__(
        self, own: str, space: spaces.Box, teams: int, columns: Sequence[int], *, shuffle: bool
    ) -> None:
        """Begin with the order of the environment.

        Args:
            own: Name of the observation.
            space: Of one row.
            teams: E, environments.
            columns: Places of the n agents among those of an environment.
            shuffle: Whether to draw orders.
        """
        self._own, self._columns, self._shuffle = own, list(columns), shuffle
        agents = len(columns)
        self.space = _unbounded(space, agents * space.shape[0])
        # Row k is k, k + 1, ... modulo n: so the critic knows whose value it is asked for.
        order = (np.arange(agents)[:, None] + np.arange(agents)) % agents
        self._order = np.repeat(order[None], teams, axis=0)
        self._generators: list[np.random.Generator] = []

    def reset(self, seed: int) -> None:
        """Orders depend on the environment alone, not on which others are on this rank."""
        if self._shuffle:
            environments, agents = self._order.shape[:2]
            self._generators = [np.random.default_rng(seed + e * agents) for e in range(environments)]

    def __call__(self, named: Mapping[str, Array], latest: TeamsStep) -> Array:
        """[B, n * size]."""
        for e, step in enumerate(latest.steps if self._shuffle else ()):
            if step is None:
                self._draw(e)
        seen = latest.seen[:, self._columns]
        every = named[self._own].reshape(*seen.shape, -1) * seen[..., None]
        environments = np.arange(len(seen))[:, None, None]
        joined: Array = every[environments, self._order].reshape(seen.size, -1)
        return joined.astype(self.space.dtype, copy=False)

    def remembered(self, e: int) -> Any:
        """The order of environment e, and its generator."""
        return [self._order[e].copy(), self._generators[e] if self._shuffle else None]

    def recall(self, e: int, remembered: Any) -> None:
        """Go on with these."""
        self._order[e], generator = remembered
        if self._shuffle and generator is not None:
            self._generators[e] = generator

    def _draw(self, e: int) -> None:
        drawn = self._generators[e].permutation(self._order.shape[1])
        for k, order in enumerate(self._order[e]):
            order[1:] = drawn[drawn != k]


class WholeEnvironment(CriticView):
    """What `EveryAgent` sees, then the observations of other policies' agents, in the environment's order."""

    def __init__(self, every: EveryAgent, teams: Sequence[Team], columns: Sequence[int], masks: str) -> None:
        """Take the agents of the other policies, whose spaces may differ.

        Raises:
            UsageError: Observations are images.
        """
        self._every, self._teams, self._agents = every, teams, len(columns)
        first = teams[0]
        self._others = []
        for column, agent in enumerate(first.agents):
            if column not in columns:
                space = without_mask(first.env.observation_space(agent), masks)
                self._others.append((column, agent, Encoder(space), ObservationBatch(space, len(teams))))
        encoded = [encoder.space for _, _, encoder, _ in self._others]
        for space in encoded:
            _check_vector("environment", space)
        self.space = _unbounded(every.space, every.space.shape[0] + sum(each.shape[0] for each in encoded))

    def reset(self, seed: int) -> None:
        """As `EveryAgent.reset`."""
        self._every.reset(seed)

    def remembered(self, e: int) -> Any:
        """What `EveryAgent` remembers, and what agents of the others saw, some of whom are gone."""
        return [self._every.remembered(e), [batch.row(e) for *_, batch in self._others]]

    def recall(self, e: int, remembered: Any) -> None:
        """Go on from there."""
        every, rows = remembered
        self._every.recall(e, every)
        for (*_, batch), row in zip(self._others, rows, strict=True):
            batch.set_row(e, row)

    def __call__(self, named: Mapping[str, Array], latest: TeamsStep) -> Array:
        """[B, n * size + sizes of the others]."""
        parts = []
        for column, agent, encoder, batch in self._others:
            for e, observations in enumerate(latest.observations):
                if agent in observations:
                    batch.write(e, observations[agent])
            try:
                encoded = encoder(batch.value)
            except BadObservationError as error:
                raise self._teams[error.row].fault(f"{agent}, {error.key}", error.problem) from error
            parts.append(np.repeat(encoded * latest.seen[:, column, None], self._agents, axis=0))
        joined = np.concatenate((self._every(named, latest), *parts), axis=1)
        return joined.astype(self.space.dtype, copy=False)


class State(CriticView):
    """The agent's own observation, then the environment's state."""

    def __init__(self, own: str, space: spaces.Box, teams: Sequence[Team], agents: int) -> None:
        """Args: own: Name of the observation. space: Of one row. teams: Whose states. agents: n."""
        self._own, self._teams, self._agents = own, teams, agents
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

    def __call__(self, named: Mapping[str, Array], latest: TeamsStep) -> Array:
        """[B, size of the observation + size of the state]."""
        states = np.empty((len(self._teams), self._size), self.space.dtype)
        for e, team in enumerate(self._teams):
            states[e] = team.state(self._size)
        rows = np.repeat(states, self._agents, axis=0)
        return np.concatenate((named[self._own], rows), axis=1).astype(self.space.dtype, copy=False)


def _unbounded(space: spaces.Box, size: int) -> spaces.Box:
    dtype = np.float64 if space.dtype == np.float64 else np.float32
    return spaces.Box(-np.inf, np.inf, (size,), dtype)
