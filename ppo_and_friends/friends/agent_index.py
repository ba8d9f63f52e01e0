"""A friend that tells agents which of them they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.hooks import EpisodeHistory

Array = NDArray[Any]


class AgentIndex(Friend):
    """Append to an agent's observation, one-hot, which of the agents it is.

    Agents that share a policy can then act differently. The critic gets it, too, if it sees something else.
    """

    source = "arXiv:1605.06676"

    def setup(self, context: FriendContext) -> None:
        """Refuse images and bytes, to which nothing can be appended."""
        super().setup(context)
        for space in (context.observation_space, context.critic_space):
            if space is not None and (len(space.shape) != 1 or space.dtype == np.uint8):
                raise UsageError(
                    f"AgentIndex works on vectors of numbers, not on {space.dtype} of shape {space.shape}: "
                    "use --without AgentIndex."
                )
        self.one_hot = np.eye(max(1, len(context.agents)))

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """Longer by the number of agents."""
        size = len(self.one_hot)
        low = np.concatenate((space.low, np.zeros(size))).astype(space.dtype)
        high = np.concatenate((space.high, np.ones(size))).astype(space.dtype)
        return spaces.Box(low, high, dtype=space.dtype.type)

    def critic_observation_space(self, space: spaces.Box) -> spaces.Box:
        """Longer by the number of agents."""
        return self.observation_space(space)

    def transform(self, observations: Array, history: EpisodeHistory) -> Array:
        """[B, n] to [B, n + agents]; row b is agent b modulo their number."""
        return self.transform_critic(observations)

    def transform_critic(self, observations: Array) -> Array:
        """As ``transform``."""
        environments, rest = divmod(len(observations), len(self.one_hot))
        if rest:
            raise UsageError(
                f"AgentIndex needs a row for each of the agents {', '.join(self.context.agents)}, or several "
                f"times as many, not {len(observations)}."
            )
        appended = np.tile(self.one_hot, (environments, 1)).astype(observations.dtype)
        return np.concatenate((observations, appended), axis=1)
