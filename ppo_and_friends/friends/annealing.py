"""Friends that move a step size, the clip range or the entropy weight as training goes on."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import Controls

Shape = Literal["linear", "cosine", "steps"]


def annealed(shape: Literal["linear", "cosine"], start: float, end: float, progress: float) -> float:
    """The value at a share of the training.

    Args:
        shape: A straight line, or half a period of a cosine (arXiv:1608.03983, eq. 5).
        start: Value at progress 0.
        end: Value at progress 1.
        progress: In [0, 1].
    """
    left = 1.0 - progress if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return end + (start - end) * left


class Annealing(Friend):
    """Base of the annealing friends; each moves the one quantity it is named after."""

    quantity: Literal["learning_rate", "clip_range", "entropy_coefficient"]
    """Which of the controls it moves."""

    reached: Tensor

    def __init__(
        self,
        shape: Shape = "linear",
        start: float | None = None,
        end: float = 0.0,
        at: tuple[float, ...] = (),
        by: Literal["timesteps", "score"] = "timesteps",
        factor: float = 0.1,
    ) -> None:
        """Choose how the value moves.

        Args:
            shape: ``linear`` or ``cosine`` from start to end over the run, or in ``steps``.
            start: First value, >= 0; None: as PPO's settings have it at each time.
            end: Last value, or with ``steps`` the least one, >= 0.
            at: With ``steps``: the timesteps, or the mean scores of the last 100 training episodes,
                ascending, at which the value is multiplied once more. A score counts once reached.
            by: What ``at`` is about.
            factor: Of each multiplication, > 0.
        """
        super().__init__()
        if end < 0.0 or factor <= 0.0 or (start is not None and start < 0.0):
            raise UsageError(
                f"{self.name} needs start and end >= 0 and factor > 0: not {start}, {end} and {factor}."
            )
        if (shape == "steps") != bool(at) or list(at) != sorted(at):
            raise UsageError(f"{self.name}: shape=steps, and it alone, needs ascending values in at=[...].")
        self.shape, self.start, self.end = shape, start, end
        self.at, self.by, self.factor = at, by, factor
        self.reached = self.statistic("reached", np.zeros(()))
        self._value = float("nan")

    def before_update(self, controls: Controls) -> None:
        """Set this iteration's value."""
        start = getattr(controls, self.quantity) if self.start is None else self.start
        if self.shape == "steps":
            if self.by == "timesteps":
                self.reached.fill_(sum(controls.timesteps >= place for place in self.at))
            power = float(self.reached)
            self._value = max(start * self.factor**power, min(self.end, start))
        else:
            self._value = annealed(self.shape, start, self.end, controls.progress)
        setattr(controls, self.quantity, self._value)

    def after_update(self, stats: dict[str, float]) -> None:
        """See which scores were reached."""
        if self.shape == "steps" and self.by == "score":
            now = sum(stats["score_mean_100"] >= place for place in self.at)
            self.reached.fill_(max(float(self.reached), float(now)))

    def metrics(self) -> dict[str, float]:
        """The value in use."""
        return {"value": self._value}


class LearningRateAnnealing(Annealing):
    """Move PPO's learning rate: linear, cosine, or in steps by timesteps or by scores reached."""

    source = "arXiv:2006.05990, section 3.7; arXiv:1608.03983"
    conflicts = ("AdaptiveLearningRate",)
    quantity = "learning_rate"


class ClipAnnealing(Annealing):
    """Move PPO's clip range: linear, cosine, or in steps by timesteps or by scores reached."""

    source = "arXiv:1707.06347, table 5"
    quantity = "clip_range"


class EntropyAnnealing(Annealing):
    """Move the entropy weight: linear, cosine, or in steps by timesteps or by scores reached."""

    source = "arXiv:1602.01783, section 5.1"
    quantity = "entropy_coefficient"
