"""Observations of several agents, by name, as the batch that their policy takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.vector.batch import ObservationBatch

Array = NDArray[Any]


class TeamObservations:
    """A batch with a row for each agent; those that aren't there keep their last observation."""

    def __init__(self, space: spaces.Space[Any], agents: tuple[str, ...]) -> None:
        """Args: space: Of one observation, as declared. agents: Their names, in the order of the rows."""
        self._agents = agents
        self._batch = ObservationBatch(space, len(agents))
        self._there: Array = np.zeros(len(agents), np.bool_)

    @property
    def batch(self) -> Any:
        """Dicts and tuples as in the space, of arrays [n, ...]."""
        return self._batch.value

    @property
    def there(self) -> Array:
        """[n] bool, who was there last."""
        return self._there

    def are_these(self, observation: Any) -> bool:
        """Whether it is a dict of observations by agent."""
        return (
            isinstance(observation, Mapping) and bool(observation) and set(observation) <= set(self._agents)
        )

    def reset(self) -> None:
        """Nobody was there."""
        self._there[:] = False

    def take(self, observations: Mapping[str, Any]) -> Array:
        """Take in the observations; returns [n] bool, who is there and wasn't before."""
        there = np.array([agent in observations for agent in self._agents])
        for k in np.flatnonzero(there).tolist():
            self._batch.write(k, observations[self._agents[k]])
        appeared: Array = there & ~self._there
        self._there = there
        return appeared
