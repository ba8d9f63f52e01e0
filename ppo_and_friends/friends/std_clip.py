"""A friend that reduces exploration: an upper bound on the policy's standard deviation."""

from __future__ import annotations

import math

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.settings.schedules import AnySchedule, Schedule, Status, as_schedule

SMALLEST_LIMIT = 1e-12
"""Of a standard deviation, for schedules that ask a user's function: its logarithm is taken."""


class StdClip(Friend):
    """Keep a Gaussian policy's standard deviation below a bound, which may fall over the run.

    A policy learns what is best given its own noise. With less noise towards the end, its most probable
    actions, which are what tests use, need fewer precautions. Below the bound it is learned as usual.
    """

    source = "PPO and Friends"
    reported = (Metric("limit", "Largest standard deviation allowed", "half action ranges"),)
    conflicts = ("StateDependentExploration",)

    def __init__(self, limit: AnySchedule = Schedule(1.0, 0.1)) -> None:
        """Choose the bound, in units of the policy's draws: with two bounds, -1 and 1 are an action's ends.

        A squashed policy's are those before the squashing. The bound is applied after each update.

        Args:
            limit: Largest standard deviation, > 0; a schedule such as ``1:0.1``.
        """
        super().__init__()
        self.schedule = as_schedule(limit)
        if not all(0.0 < value < math.inf for value in self.schedule.extremes()):
            raise UsageError(f"StdClip: limit must be positive and finite, not {limit}.")
        self.limit = self.schedule.start
        self._status = Status(0.0)

    def attach(self, agent: Agent) -> None:
        """Find the standard deviation; refuse policies that have none of their own."""
        head = self.built_in(agent.network).policy_head
        if not isinstance(head, PolicyHead) or head.log_std is None:
            raise UsageError(
                f"StdClip needs a Box action space and the usual policy head, not "
                f"{agent.mapping.space} and {type(head).__name__}: use --without StdClip."
            )
        self._log_std = head.log_std

    def before_update(self, controls: Controls) -> None:
        """Note the run's progress: the bound is that of the next rollout."""
        self._status = controls.status_after

    def after_update(self, stats: dict[str, float]) -> None:
        """Lower the standard deviation where it is above the bound."""
        self.limit = self.schedule.value(self._status, least=SMALLEST_LIMIT)
        self._log_std.data.clamp_(max=math.log(self.limit))

    def metrics(self) -> dict[str, float]:
        """The bound."""
        return {"limit": self.limit}
