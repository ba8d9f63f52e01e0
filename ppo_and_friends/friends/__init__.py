"""Friends: plug-ins that change what PPO learns from, or how."""

from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.ppo.hooks import Controls, EpisodeHistory, RolloutRequest

__all__ = [
    "Controls",
    "EpisodeHistory",
    "Friend",
    "FriendContext",
    "FriendGroup",
    "ObservationStream",
    "RolloutRequest",
]

ObservationStream = EpisodeHistory
"""The former name of EpisodeHistory, for friends that were written with it."""
