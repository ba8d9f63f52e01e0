"""The interface that every backend implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(slots=True)
class VectorStep:
    """The result of one step of B environments. The next step may overwrite the arrays; copy to keep them.

    Automatic resets follow Gymnasium's next-step mode: where ``resets`` is True, the next step ignores
    the action and resets the environment instead. That row's reward is then 0, and its observation is
    the first one of the new episode.
    """

    observations: Array
    """[B, *observation shape]; where an episode has ended, its true final observation."""

    rewards: Array
    """[B] float, the rewards to train on (in Atari, clipped to their sign if the settings say so)."""

    terminated: Array
    """[B] bool, whether the episode ended in a terminal state, whose value is 0. Excludes ``truncated``."""

    truncated: Array
    """[B] bool, whether the episode was truncated without having terminated."""

    resets: Array
    """[B] bool, whether the next step is an automatic reset, which is excluded from training."""

    scores: Array
    """[B] float, the environment's own rewards, neither clipped nor normalised; they add up to the score."""

    finished: Array
    """[B] bool, whether a whole episode ended (in Atari a game, not a life); its score is then complete."""


class VectorEnv(Protocol):
    """The B environments of one rank, stepped together, with observations encoded as arrays."""

    num_envs: int
    """B, the number of this rank's environments."""

    observation_space: spaces.Box
    """Encoded observation space of one environment: a flat vector (float or uint8) or a uint8 image."""

    action_space: spaces.Space[Any]
    """Action space of one environment, as the environment itself declares it."""

    def reset(self, seed: int) -> Array:
        """Reset every environment; this rank's environment i is seeded with ``seed + i``.

        Returns:
            [B, *observation shape].
        """
        ...

    def step(self, actions: Array) -> VectorStep:
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
