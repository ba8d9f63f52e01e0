"""Curves of runs: smoothed, and averaged over seeds. No drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.grouping import Group, grouped
from ppo_and_friends.reporting.run_record import Run

Array = NDArray[np.float64]

GRID = 400
"""Points on which runs of different lengths of iteration are averaged."""

SAME_END = 0.02
"""Share of a curve's length by which the ends of runs of the same length may differ."""

EXTREMES = {
    "episode_return_mean": ("episode_return_min", "episode_return_max"),
    "episode_return_mean_100": ("episode_return_min", "episode_return_max"),
}
"""Columns of means to those of the least and the largest value that entered them."""


@dataclass(frozen=True)
class Curve:
    """Mean and spread of a column over the runs of a group."""

    label: str
    x: Array
    """[points], timesteps (or what was asked for)."""

    mean: Array
    """[points]."""

    spread: Array
    """[points], sample standard deviation over the runs; NaN with a single one."""

    runs: int

    least: float = -np.inf
    """The least value that was ever measured: no band reaches below it."""

    largest: float = np.inf
    """The largest value that was ever measured: no band reaches above it."""

    @property
    def band(self) -> tuple[Array, Array]:
        """Lower and upper edge of one standard deviation around the mean, [points] each."""
        low = np.maximum(self.mean - self.spread, np.minimum(self.least, self.mean))
        high = np.minimum(self.mean + self.spread, np.maximum(self.largest, self.mean))
        return low, high


def smooth(values: Array, window: int) -> Array:
    """Centred moving mean that does not lie at the ends, and leaves gaps as gaps.

    Towards an end the window shrinks on both sides alike: a trend is never bent, and the last value
    is the last one measured. Missing values are left out of the means.

    Args:
        values: [n], NaN where unknown.
        window: Values in a mean (an odd number; an even one is raised by one); 1: no smoothing.

    Returns:
        [n].
    """
    half, n = max(0, window) // 2, len(values)
    known = np.isfinite(values)
    total = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    count = np.concatenate(([0], np.cumsum(known)))
    index = np.arange(n)
    reach = np.minimum(half, np.minimum(index, n - 1 - index))
    low, high = index - reach, index + reach + 1
    with np.errstate(invalid="ignore"):
        mean = (total[high] - total[low]) / (count[high] - count[low])
    return np.where(known, mean, np.nan)


def curves(
    runs: Sequence[Run], column: str, *, x: str = "timesteps", window: int = 1, to_end: bool = True
) -> list[Curve]:
    """Mean and spread of a column, over the runs that differ only in their seed.

    Args:
        runs: At least one.
        column: What to draw, such as ``episode_return_mean``.
        x: Against what, such as ``timesteps`` or ``seconds``.
        window: Iterations to smooth over, before averaging.
        to_end: Hold the last known value until the run's last iteration.

    Raises:
        UsageError: No run has the column.
    """
    known = sorted({name for run in runs for name in run.columns})
    for name in (column, x):
        if name not in known:
            raise UsageError(f"No such column: {name}. There are: {', '.join(known)}.")
    found = []
    for group in grouped(runs):
        lines = [line for run in group.runs if (line := _line(run, column, x, window, to_end)) is not None]
        if lines:
            found.append(_average(group, lines, *_extremes(group, column)))
    return found


def _line(run: Run, column: str, x: str, window: int, to_end: bool) -> tuple[Array, Array] | None:
    """A run's known points, smoothed."""
    if column not in run.columns or x not in run.columns:
        return None
    across, values = run.columns[x], smooth(run.columns[column], window)
    known = np.isfinite(across) & np.isfinite(values)
    if not known.any():
        return None
    points, ends = (across[known], values[known]), across[np.isfinite(across)]
    if to_end and ends[-1] > points[0][-1]:
        # No episode may have ended in the last iterations: the policy's score is still what it was.
        return np.append(points[0], ends[-1]), np.append(points[1], points[1][-1])
    return points


def _extremes(group: Group, column: str) -> tuple[float, float]:
    least, largest = EXTREMES.get(column, (column, column))
    return (
        min((np.nanmin(each) for each in _measured(group, least, column)), default=-np.inf),
        max((np.nanmax(each) for each in _measured(group, largest, column)), default=np.inf),
    )


def _measured(group: Group, name: str, otherwise: str) -> list[Array]:
    columns = [run.columns.get(name, run.columns.get(otherwise, np.empty(0))) for run in group.runs]
    return [column for column in columns if np.isfinite(column).any()]


def _average(group: Group, lines: list[tuple[Array, Array]], least: float, largest: float) -> Curve:
    if len(lines) == 1:
        across, values = lines[0]
        return Curve(group.label, across, values, np.full(len(values), np.nan), 1, least, largest)
    # Only where every run has values: a mean over ever fewer runs would jump. But runs of the same length
    # end at slightly different timesteps.
    low = max(across[0] for across, _ in lines)
    ends = [across[-1] for across, _ in lines]
    same = max(ends) - min(ends) <= SAME_END * max(ends)
    high = max(low, max(ends) if same else min(ends))
    grid = np.linspace(low, high, GRID)
    table = np.array([np.interp(grid, across, values) for across, values in lines])
    return Curve(group.label, grid, table.mean(0), table.std(0, ddof=1), len(lines), least, largest)
