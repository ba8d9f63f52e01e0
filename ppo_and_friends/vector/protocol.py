"""The one interface behind which every simulator runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(slots=True)
class VectorStep:
    """What one step of B environments gave. Arrays may be reused by the next step: copy to keep.

    Autoreset is *next-step*: after a row with ``resets``, the next step ignores that row's action
    and carries the reset (its reward is 0, its observation the first one of the new episode).
    """

    observations: Array
    """[B, *observation shape]; of an ending row, the episode's true final observation."""

    rewards: Array
    """[B] float, what is learned from (clipped to signs in Atari training)."""

    terminated: Array
    """[B] bool, the episode ended: there is no future value. Wins over ``truncated``."""

    truncated: Array
    """[B] bool, the episode was cut off, and not terminated."""

    resets: Array
    """[B] bool, the next step of this row is an automatic reset and no experience."""

    scores: Array
    """[B] float, the true rewards: unclipped, unnormalised."""

    finished: Array
    """[B] bool, a whole episode (a game, not a life) ended, so that its score is complete."""


class VectorEnv(Protocol):
    """B environments of one rank, stepped together, observations already turned into arrays."""

    num_envs: int
    """B, this rank's environments."""

    observation_space: spaces.Box
    """Of one environment, after encoding: a flat float vector or a uint8 image."""

    action_space: spaces.Space[Any]
    """Of one environment, as the environment itself declares it."""

    def reset(self, seed: int) -> Array:
        """Start every environment afresh; environment i of this rank gets seed ``seed + i``.

        Returns:
            [B, *observation shape].
        """
        ...

    def step(self, actions: Array) -> VectorStep:
        """Step all environments.

        Args:
            actions: [B, *action shape], as ``action_space`` has them.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        ...

    def close(self) -> None:
        """Release processes, threads and windows."""
        ...
