"""Runs read back from their folders, grouped by settings, averaged over seeds. No drawing here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.settings.flat import flatten
from ppo_and_friends.settings.plain import completed_settings

Array = NDArray[np.float64]

GRID = 400
"""Points on which runs of different lengths of iteration are averaged."""

NOT_SETTINGS = ("random_seed", "device", "checkpoint_seconds", "keep_checkpoints", "reward_threshold")
"""Settings by which runs of one group may differ."""


@dataclass(frozen=True)
class Run:
    """One run's record."""

    folder: Path
    settings: dict[str, Any]
    """Flat, like ``{"ppo.clip_range": 0.2}``; empty if ``experiment.json`` is missing."""

    columns: dict[str, Array]
    """``progress.csv`` by column, each [iterations], NaN where a cell is blank."""


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


def load_run(folder: Path) -> Run:
    """Read a run's folder (or its ``progress.csv``).

    Raises:
        UsageError: There is no ``progress.csv`` with rows.
    """
    path = folder if folder.suffix == ".csv" else folder / "progress.csv"
    names, rows = read_rows(path)
    if not rows:
        raise UsageError(f"{folder} holds no run to plot: {path.name} is missing or empty.")
    columns = {name: np.array([_number(row[name]) for row in rows]) for name in names}
    try:
        record = json.loads((path.parent / "experiment.json").read_text())
        settings = flatten(completed_settings(record.get("experiment", {}), record.get("format", 1)))
    except (OSError, ValueError, AttributeError):
        settings = {}
    return Run(path.parent, settings, columns)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


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


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run: the environment's name if it differs, and what else differs in the settings.

    Runs that differ in nothing but the seed get the same label, so that they are averaged.
    """
    names = sorted({name for run in runs for name in run.settings})
    differ = [
        name
        for name in names
        if name not in NOT_SETTINGS and len({repr(run.settings.get(name)) for run in runs}) > 1
    ]
    if any(name in ("name", "environment.id") for name in differ):
        # Another launcher has other settings throughout: its name says it all, unless it doesn't.
        by_name: dict[Any, set[str]] = {}
        for run in runs:
            rest = repr([run.settings.get(name) for name in differ])
            by_name.setdefault(run.settings.get("name"), set()).add(rest)
        if all(len(kinds) == 1 for kinds in by_name.values()):
            return [str(run.settings.get("name", run.folder.name)) for run in runs]
    result = []
    for run in runs:
        if not run.settings:
            result.append(run.folder.name)
            continue
        parts = [f"{name}={_short(run.settings.get(name))}" for name in differ]
        result.append(", ".join(parts) or str(run.settings.get("name", run.folder.name)))
    return result


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def curves(runs: Sequence[Run], column: str, *, x: str = "timesteps", window: int = 1) -> list[Curve]:
    """Mean and spread of a column, over the runs that differ only in their seed.

    Args:
        runs: At least one.
        column: What to draw, such as ``score_mean``.
        x: Against what, such as ``timesteps`` or ``seconds``.
        window: Iterations to smooth over, before averaging.

    Raises:
        UsageError: No run has the column.
    """
    known = sorted({name for run in runs for name in run.columns})
    for name in (column, x):
        if name not in known:
            raise UsageError(f"No such column: {name}. There are: {', '.join(known)}.")
    groups: dict[str, list[tuple[Array, Array]]] = {}
    for label, run in zip(labels(runs), runs, strict=True):
        if column not in run.columns or x not in run.columns:
            continue
        across, values = run.columns[x], smooth(run.columns[column], window)
        known_points = np.isfinite(across) & np.isfinite(values)
        if known_points.any():
            groups.setdefault(label, []).append((across[known_points], values[known_points]))
    return [_average(label, group) for label, group in groups.items()]


def _average(label: str, group: list[tuple[Array, Array]]) -> Curve:
    if len(group) == 1:
        across, values = group[0]
        return Curve(label, across, values, np.full(len(values), np.nan), 1)
    # Only where every run has values: a mean over ever fewer runs would jump.
    low = max(across[0] for across, _ in group)
    high = max(low, min(across[-1] for across, _ in group))
    grid = np.linspace(low, high, GRID)
    table = np.array([np.interp(grid, across, values) for across, values in group])
    return Curve(label, grid, table.mean(0), table.std(0, ddof=1), len(group))
