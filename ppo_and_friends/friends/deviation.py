"""The friend that lets exploration fade: a falling bound on the policy's deviation."""

from __future__ import annotations

import math
from typing import Literal

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.annealing import annealed
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Controls


class DeviationAnnealing(Friend):
    """Hold a Gaussian policy's deviation under a bound that falls over the run.

    The policy learns what is best with its own noise. With less of it towards the end, its most probable
    actions, which are what is tested, take fewer precautions. Below the bound it is learned as ever.
    """

    source = "PPO and Friends"
    conflicts = ("StateDependentExploration",)

    def __init__(
        self, start: float = 1.0, end: float = 0.1, shape: Literal["linear", "cosine"] = "linear"
    ) -> None:
        """Choose the bound, in units of the policy's draws: with two bounds, -1 and 1 are an action's ends.

        A squashed policy's are those before the squashing. The bound is held after each update.

        Args:
            start: At the first timestep, > 0.
            end: At the last one, > 0.
            shape: Of the way from start to end: a straight line, or half a period of a cosine.
        """
        super().__init__()
        if not (0.0 < start < math.inf and 0.0 < end < math.inf):
            raise UsageError(
                f"DeviationAnnealing: start and end must be positive and finite, not {start} and {end}."
            )
        self.start, self.end, self.shape = start, end, shape
        self._timesteps = 0

    def attach(self, agent: Agent) -> None:
        """Find the deviation; refuse policies that have none of their own."""
        head = agent.network.policy_head
        if not isinstance(head, PolicyHead) or head.log_std is None:
            raise UsageError(
                f"DeviationAnnealing needs a Box action space and the usual policy head, not "
                f"{agent.mapping.space} and {type(head).__name__}: use --without DeviationAnnealing."
            )
        self._log_std = head.log_std

    def limit(self) -> float:
        """The bound at this time."""
        progress = min(1.0, self._timesteps / self.context.experiment.num_timesteps)
        return annealed(self.shape, self.start, self.end, progress)

    def before_update(self, controls: Controls) -> None:
        """Learn how far the training is."""
        self._timesteps = controls.timesteps

    def after_update(self, stats: dict[str, float]) -> None:
        """Lower the deviation where it is above the bound."""
        self._log_std.data.clamp_(max=math.log(self.limit()))

    def metrics(self) -> dict[str, float]:
        """The bound."""
        return {"limit": self.limit()}
