"""Friends that keep observations and rewards within a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.annealing import annealed
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.hooks import ObservationStream, RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]


class ObservationClip(Friend):
    """Clip every observation component to [-limit, limit]; put it after the normaliser."""

    source = "arXiv:2005.12729, section 2"

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

    def transform(self, observations: Array, stream: ObservationStream) -> Array:
        """Clip."""
        # np.clip does the same in twice the time, on the few numbers of a step.
        return np.minimum(np.maximum(observations, -self.limit), self.limit)


class RewardClip(Friend):
    """Clip the rewards that are learned from to [low, high]; scores stay true.

    A lower end that falls makes a punishment small at first, when fear of it would keep the agent from
    trying anything, and true at last.
    """

    source = "doi:10.1038/nature14236"

    def __init__(self, low: float = -1.0, high: float = 1.0, last_low: float | None = None) -> None:
        """Choose the range.

        Args:
            low: Its lower end.
            high: Its upper end.
            last_low: Its lower end at the end of the run, reached in a straight line; None: always the same.
        """
        super().__init__()
        if not low < high:
            raise UsageError(f"RewardClip: low must be below high, not {low} and {high}.")
        if last_low is not None and not (-np.inf < last_low < high and low > -np.inf):
            raise UsageError(
                "RewardClip: with last_low, both lower ends must be finite and below high, "
                f"not low={low}, last_low={last_low} and high={high}."
            )
        self.first_low, self.last_low, self.high = low, last_low, high
        self.low = low

    def before_rollout(self, request: RolloutRequest) -> None:
        """Move the lower end."""
        if self.last_low is not None:
            self.low = annealed("linear", self.first_low, self.last_low, request.progress)

    def after_rollout(self, rollout: Rollout) -> None:
        """Clip the extrinsic rewards."""
        rollout.rewards["extrinsic"] = np.clip(rollout.rewards["extrinsic"], self.low, self.high)

    def metrics(self) -> dict[str, float]:
        """The lower end, if it moves."""
        return {} if self.last_low is None else {"low": self.low}
