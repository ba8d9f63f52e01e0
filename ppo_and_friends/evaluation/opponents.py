"""Games of one policy against another: in episode after episode another agent is played by the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.player import Policy
from ppo_and_friends.vector.masks import KEY

Array = NDArray[Any]

WON = "won"
"""Among an episode's numbers: 1 if the policy's return is above the mean of its opponents', 0.5 if it equals
it, else 0."""


class RandomPolicy:
    """Takes legal actions at random, all with the same probability."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        """Take the action space.

        Raises:
            UsageError: It isn't Discrete.
        """
        if not isinstance(space, spaces.Discrete):
            raise UsageError(f"A random opponent needs Discrete actions, not {space}.")
        self._space = space
        self._generator = np.random.default_rng(0)

    def reset(self, seed: int | None, rows: Array | None = None) -> None:
        """Seed the choices."""
        if seed is not None:
            self._generator = np.random.default_rng([seed, 1])

    def act(self, observations: Mapping[str, Array], deterministic: bool) -> Array:
        """Choose; [B] in the environment's units."""
        rows = len(observations["policy"])
        legal = np.asarray(observations.get(KEY, np.ones((rows, int(self._space.n)), np.bool_)))
        weights = self._generator.random(legal.shape) * legal
        chosen: Array = weights.argmax(axis=1) + self._space.start
        return chosen.astype(self._space.dtype)


class _Chair:
    """One agent, which is played by the policy in every n-th episode, and else by its opponent."""

    def __init__(self, place: int, count: int, policy: Policy, opponent: Policy) -> None:
        self._place, self._count = place, count
        self._policy, self._opponent = policy, opponent
        self._acting = policy

    def reset(self, seed: int | None, rows: Array | None = None) -> None:
        if seed is not None:
            self._acting = self._policy if seed % self._count == self._place else self._opponent
        self._acting.reset(seed, rows)

    def act(self, observations: Mapping[str, Array], deterministic: bool) -> Array:
        return self._acting.act(observations, deterministic)


class Match:
    """What an evaluation plays instead of a policy: an agent is the policy, the others are its opponent.

    Which one depends on the episode's seed: one after the other.

    Attributes:
        by_agents: What plays each agent.
    """

    def __init__(
        self, agents: tuple[str, ...], policy: Callable[[], Policy], opponent: Callable[[], Policy]
    ) -> None:
        """Take both sides.

        Args:
            agents: All agents of the environment, in order.
            policy: Makes one of the policy's players.
            opponent: Makes one of the opponent's.
        """
        self._count = len(agents)
        self.by_agents: dict[tuple[str, ...], Policy] = {
            (agent,): _Chair(place, self._count, policy(), opponent()) for place, agent in enumerate(agents)
        }

    def counts(self, seed: int) -> Array:
        """[n] bool, which agent is the policy in the episode with a seed."""
        chosen: Array = np.arange(self._count) == seed % self._count
        return chosen


def won(returns: Array, ours: Array) -> dict[str, float]:
    """Whether the policy has won, as a number of the episode."""
    return {WON: float(0.5 + 0.5 * np.sign(returns[ours].mean() - returns[~ours].mean()))}
