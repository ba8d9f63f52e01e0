"""A friend that keeps advantages up to date with the critic."""

from __future__ import annotations

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.rollout import Rollout


class AdvantageRecompute(Friend):
    """Estimate values, advantages and returns again, with the current critic, before each epoch."""

    source = "arXiv:2006.05990, section 3.5"

    def __init__(self, every: int = 1) -> None:
        """Args: every: Epochs between two estimations, >= 1."""
        super().__init__()
        if every < 1:
            raise UsageError(f"AdvantageRecompute: every must be at least 1, not {every}.")
        self.every = every

    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Whether the epoch is due; the first one has what was just estimated."""
        return epoch > 0 and epoch % self.every == 0
