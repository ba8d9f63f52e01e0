"""Friends that keep observations and rewards within a range."""

from __future__ import annotations

import math

import numpy as np
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.hooks import EpisodeHistory, RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.settings.schedules import AnySchedule, Schedule, as_schedule
from ppo_and_friends.vector.protocol import Data


class ObservationClip(Friend):
    """Clip every observation component to [-limit, limit]; put it after the normaliser."""

    source = "arXiv:2005.12729, section 2"
    takes_tensors = True

    def __init__(self, limit: float = 10.0) -> None:
        """Args: limit: Largest absolute value, > 0."""
        super().__init__()
        if limit <= 0.0:
            raise UsageError(f"ObservationClip: limit must be positive, not {limit}.")
        self.limit = limit

    def setup(self, context: FriendContext) -> None:
        """Refuse bytes, which have a range of their own."""
        super().setup(context)
        if context.observation_space.dtype == np.uint8:
            raise UsageError("ObservationClip works on numbers, not on bytes: use --without ObservationClip.")

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """The space's bounds, clipped as well."""
        low, high = (np.clip(bound, -self.limit, self.limit) for bound in (space.low, space.high))
        return spaces.Box(low, high, space.shape, space.dtype.type)

    def critic_observation_space(self, space: spaces.Box) -> spaces.Box:
        """As with the policy's."""
        return self.observation_space(space)

    def transform_critic(self, observations: Data) -> Data:
        """Clip."""
        return self._clipped(observations)

    def transform(self, observations: Data, history: EpisodeHistory) -> Data:
        """Clip."""
        return self._clipped(observations)

    def _clipped(self, observations: Data) -> Data:
        if isinstance(observations, Tensor):
            return observations.clamp(-self.limit, self.limit)
        # np.clip does the same in twice the time, on the few numbers of a step.
        return np.minimum(np.maximum(observations, -self.limit), self.limit)


class RewardClip(Friend):
    """Clip training rewards to [low, high]; reported returns are unaffected.

    A falling lower end makes a penalty small at first, when it would keep the agent from exploring, and true
    at the end. A rising upper end does the same to rewards that would drown all others.
    """

    source = "doi:10.1038/nature14236"
    reported = (
        Metric("low", "Lower end of the range; only if it moves", "reward"),
        Metric("high", "Upper end of the range; only if it moves", "reward"),
    )

    def __init__(self, low: AnySchedule = Schedule(-1.0), high: AnySchedule = Schedule(1.0)) -> None:
        """Choose the range.

        Args:
            low: Its lower end; a schedule such as ``-1:-100``, by which it falls.
            high: Its upper end, above the lower one at any time; a schedule such as ``1:100``.
        """
        super().__init__()
        self._ends = {"low": as_schedule(low), "high": as_schedule(high)}
        lower, upper = self._ends.values()
        self.low, self.high = lower.start, upper.start
        lows, highs = lower.extremes(), upper.extremes()
        if lower.moves and upper.moves:  # one may later be where the other was: compared as they move
            lows, highs = lows[:1], highs[:1]
        if not max(lows, default=-math.inf) < min(highs, default=math.inf):
            raise UsageError(f"RewardClip: low must be below high, not {low} and {high}.")

    def before_rollout(self, request: RolloutRequest) -> None:
        """Move the ends."""
        self.low, self.high = (end.value(request.status) for end in self._ends.values())
        if not self.low < self.high:
            raise UsageError(
                f"RewardClip: in iteration {request.iteration} low is {self.low:g}, not below high, "
                f"{self.high:g}. Choose schedules that don't cross."
            )

    def after_rollout(self, rollout: Rollout) -> None:
        """Clip the extrinsic rewards."""
        rollout.rewards["extrinsic"] = rollout.rewards["extrinsic"].clamp(self.low, self.high)

    def metrics(self) -> dict[str, float]:
        """The ends that move."""
        now = {"low": self.low, "high": self.high}
        return {name: now[name] for name, end in self._ends.items() if end.moves}
