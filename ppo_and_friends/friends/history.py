"""Friends that show the policy earlier observations and actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.networks.action_features import ActionFeatures
from ppo_and_friends.ppo.hooks import EpisodeHistory

Array = NDArray[Any]


def _require_vector(friend: Friend, space: spaces.Box, what: str) -> None:
    if len(space.shape) != 1:
        raise UsageError(
            f"{friend.name} works on vectors, not on observations of shape {space.shape}: {what}"
        )


class ObservationHistory(Friend):
    """Stack the last few observations, the newest last; an episode's first fills the whole stack."""

    source = "doi:10.1038/nature14236"

    def __init__(self, length: int = 4) -> None:
        """Args: length: Observations in the stack, >= 1."""
        super().__init__()
        if length < 1:
            raise UsageError(f"ObservationHistory: length must be at least 1, not {length}.")
        self.length = length

    def setup(self, context: FriendContext) -> None:
        """Refuse images, which are stacked by the environment's settings."""
        super().setup(context)
        _require_vector(self, context.observation_space, "images are stacked by environment.atari.stack.")

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """``length`` times as long."""
        low, high = np.tile(space.low, self.length), np.tile(space.high, self.length)
        return spaces.Box(low, high, dtype=space.dtype.type)

    def transform(self, observations: Array, history: EpisodeHistory) -> Array:
        """[B, n] to [B, length * n]."""
        width = observations.shape[1]
        old = history.memory.get(self.name)
        filled = np.tile(observations, self.length)
        if old is None:
            stacked = filled
        else:
            stacked = np.concatenate((old[:, width:], observations), axis=1)
            stacked[history.episode_starts] = filled[history.episode_starts]
        history.memory[self.name] = stacked
        return stacked


class PreviousAction(Friend):
    """Append the previous action to the observation; zeros at the start of an episode.

    Choices are appended as one-hot, Box actions as the environment gets them.
    """

    source = "arXiv:1611.02779, section 2.2"

    def setup(self, context: FriendContext) -> None:
        """Refuse images, to which nothing can be appended."""
        super().setup(context)
        _require_vector(self, context.observation_space, "use --without PreviousAction.")
        if context.observation_space.dtype == np.uint8:
            raise UsageError("PreviousAction works on numbers, not on bytes: use --without PreviousAction.")
        self.features = ActionFeatures(context.distribution, context.action_space)

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """Longer by the size of an encoded action."""
        low, high = self.features.bounds()
        low = np.concatenate((space.low, low)).astype(space.dtype)
        high = np.concatenate((space.high, high)).astype(space.dtype)
        return spaces.Box(low, high, dtype=space.dtype.type)

    def transform(self, observations: Array, history: EpisodeHistory) -> Array:
        """[B, n] to [B, n + action size]."""
        appended = np.zeros((len(observations), self.features.size), observations.dtype)
        if history.last_actions is not None:
            known = ~history.episode_starts
            appended[known] = self.features(torch.from_numpy(history.last_actions)).numpy()[known]
        return np.concatenate((observations, appended), axis=1)
