"""Several iterations combined into one point of a curve, so that none is lost where points are limited."""

from __future__ import annotations

import math
from collections.abc import Mapping

SUMS = ("episodes",)
LARGEST = ("episode_return_max",)
LEAST = ("episode_return_min",)
LAST = ("episode_return_mean_100", "episodes_in_mean", "learning_rate", "clip_range", "entropy_coefficient")
OF_EPISODES = ("episode_return_mean", "episode_return_std", "episode_length_mean")
"""Means over an iteration's episodes, as are all of ``info/``: weighted by the number of episodes."""


class Accumulator:
    """Collects the metrics of iterations until they are taken as one."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: list[Mapping[str, float]] = []

    def add(self, metrics: Mapping[str, float]) -> None:
        """Add an iteration's metrics."""
        self._rows.append(metrics)

    def take(self) -> dict[str, float]:
        """All metrics as if of one long iteration; clears them. What is unknown in all is left out.

        Numbers of episodes add up. The largest and the least return stay, ``best`` numbers and moving means
        are the last ones. Means over episodes are weighted by their numbers; everything else is a mean.
        """
        rows, self._rows = self._rows, []
        names = dict.fromkeys(name for row in rows for name in row)
        found = {name: _combined(name, rows) for name in names}
        return {name: value for name, value in found.items() if not math.isnan(value)}


def _combined(name: str, rows: list[Mapping[str, float]]) -> float:
    weighted = name in OF_EPISODES or name.startswith("info/")
    known = [
        (value, row.get("episodes", 1.0) if weighted else 1.0)
        for row in rows
        if not math.isnan(value := row.get(name, math.nan))
    ]
    if not known:
        return math.nan
    values = [value for value, _ in known]
    if name in SUMS:
        return math.fsum(values)
    if name in LARGEST:
        return max(values)
    if name in LEAST:
        return min(values)
    total = math.fsum(weight for _, weight in known)
    if name in LAST or name.endswith("/best") or total <= 0 or len(values) == 1:
        return values[-1]
    return math.fsum(value * weight for value, weight in known) / total
