"""A policy together with those of the other agents, as an evaluation plays them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.evaluation.player import Policy

Array = NDArray[Any]


class Company:
    """All agents of an environment, each with its own policy; the returns of one policy's agents count.

    Attributes:
        by_agents: What plays each policy's agents.
    """

    def __init__(
        self, agents: tuple[str, ...], by_agents: Mapping[tuple[str, ...], Policy], own: tuple[str, ...]
    ) -> None:
        """Take the policies.

        Args:
            agents: All agents, in the environment's order.
            by_agents: Each policy by its agents.
            own: The agents whose returns count.
        """
        self.by_agents = dict(by_agents)
        self._own: Array = np.array([agent in own for agent in agents])

    def counts(self, seed: int) -> Array:
        """[n] bool, the agents whose returns count."""
        return self._own
