"""Which actions are legal for each of several agents."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.masks import KEY, BadMaskError, as_mask, choices_of, mask_space
from ppo_and_friends.vector.parallel import without_mask
from ppo_and_friends.vector.team import Team

Array = NDArray[Any]


class TeamMasks:
    """Takes agents' masks from their observations, as PettingZoo has them, or from their infos.

    Attributes:
        space: Of one row; None: there are no masks.
    """

    def __init__(self, team: Team, agents: tuple[str, ...], asked: str) -> None:
        """See where they are, by one environment, which may be reset for it.

        Args:
            team: The environment and its agents.
            agents: Those whose masks these are. They have equal spaces.
            asked: The setting ``environment.action_masks``.

        Raises:
            UsageError: They aren't where the setting says.
        """
        agent = agents[0]
        self._actions = team.env.action_space(agent)
        self._source: Literal["observation", "info"] | None = None
        declared = team.env.observation_space(agent)
        if asked == "off" or not choices_of(self._actions):
            pass
        elif without_mask(declared, asked) is not declared:
            self._source = "observation"
        elif asked in ("auto", "info"):
            infos = team.peek()
            # Agents of other policies tell nothing about these, unless none of these is there at first.
            own = [infos[each] for each in agents if each in infos] or list(infos.values())
            self._source = "info" if any(KEY in info for info in own) else None
        if self._source is None and asked not in ("off", "auto"):
            raise UsageError(f"environment.action_masks={asked}: {agent} has no {KEY!r} there.")
        self.space = None if self._source is None else mask_space(self._actions)

    def read(self, team: Team, agent: str, observation: Any) -> Array:
        """The mask [M] of an agent that is there.

        Raises:
            EnvironmentFault: It is missing, or has the wrong shape or dtype.
        """
        place: Any = observation if self._source == "observation" else team.infos.get(agent)
        try:
            value = place[KEY]
        except (KeyError, TypeError):
            raise team.fault(f"{agent}, {KEY}", f"is missing from the {self._source}") from None
        try:
            return as_mask(value, self._actions)
        except BadMaskError as error:
            raise team.fault(f"{agent}, {KEY}", str(error)) from error

    def anything(self) -> Array:
        """A mask that forbids nothing, for an agent that doesn't act."""
        return np.ones(sum(choices_of(self._actions)), np.bool_)
