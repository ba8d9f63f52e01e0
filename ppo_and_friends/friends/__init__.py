"""Friends: plug-ins that change what PPO learns from, or how."""

from ppo_and_friends.friends.friend import (
    Controls,
    Friend,
    FriendContext,
    ObservationStream,
    RolloutRequest,
)
from ppo_and_friends.friends.group import FriendGroup

__all__ = ["Controls", "Friend", "FriendContext", "FriendGroup", "ObservationStream", "RolloutRequest"]
