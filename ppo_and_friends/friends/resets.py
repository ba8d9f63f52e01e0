"""Friends that decide where a rollout begins, and how long an advantage trace may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.hooks import RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]


class HardReset(Friend):
    """Reset all environments of all ranks before a rollout, always or with a given probability."""

    source = "PPO and Friends"

    def __init__(self, probability: float = 1.0) -> None:
        """Args: probability: Of a reset before each rollout, in [0, 1]; decided alike on all ranks."""
        super().__init__()
        if not 0.0 <= probability <= 1.0:
            raise UsageError(f"HardReset: probability must be between 0 and 1, not {probability}.")
        self.probability = probability

    def before_rollout(self, request: RolloutRequest) -> None:
        """Ask for a reset."""
        # Keyed by the iteration alone, so that all ranks decide alike.
        if self.generator(request.iteration).random() < self.probability:
            request.reset = True


class SegmentLength(Friend):
    """Truncate the advantage trace after a number of steps and bootstrap there; the episode goes on."""

    source = "arXiv:1602.01783, section 4"

    def __init__(self, steps: int = 128) -> None:
        """Args: steps: Most steps in a trace, >= 1; they are counted over rollouts."""
        super().__init__()
        if steps < 1:
            raise UsageError(f"SegmentLength: steps must be at least 1, not {steps}.")
        self.steps = steps

    def setup(self, context: FriendContext) -> None:
        """Begin to count in this rank's environments."""
        super().setup(context)
        self._age = torch.zeros(context.layout.local, dtype=torch.int64, device=context.device)

    def rows(self) -> dict[str, Array]:
        """Steps since each trace's begin."""
        return {"age": host_array(self._age)}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on counting."""
        self._age = torch.from_numpy(rows["age"].copy()).to(self._age)

    def after_rollout(self, rollout: Rollout) -> None:
        """Mark the last step of each full segment."""
        if rollout.restarted:
            self._age.zero_()
        ends = rollout.terminated | rollout.truncated
        for t in range(rollout.steps):
            self._age = (self._age + 1) * rollout.active[t]
            full = self._age >= self.steps
            rollout.trace_ends[t] |= full
            self._age[full | ends[t]] = 0
