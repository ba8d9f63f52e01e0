"""A run read back from its folder."""

from __future__ import annotations

import json
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


@dataclass(frozen=True)
class Run:
    """One run's record."""

    folder: Path
    settings: dict[str, Any]
    """Flat, like ``{"ppo.clip_range": 0.2}``; empty if ``experiment.json`` is missing."""

    columns: dict[str, Array]
    """``progress.csv`` by column, each [iterations], NaN where a cell is blank."""


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
    return Run(path.parent, load_settings(path.parent), columns)


def load_runs(folder: Path) -> list[Run]:
    """A run's record, or those of its policies, if its agents have several.

    Raises:
        UsageError: There is no ``progress.csv`` with rows.
    """
    several = sorted(folder.glob("policies/*/progress.csv"))
    return [load_run(path) for path in several or [folder]]


def load_settings(folder: Path) -> dict[str, Any]:
    """A run's settings, flat; empty if its ``experiment.json`` is missing or unreadable."""
    try:
        record = json.loads((folder / "experiment.json").read_text())
        return flatten(completed_settings(record.get("experiment", {}), record.get("format", 1)))
    except (OSError, ValueError, AttributeError):
        return {}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
