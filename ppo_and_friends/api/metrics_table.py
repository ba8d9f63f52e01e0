"""The metrics of a run as a table."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.reporting.progress_csv import ordered_columns
from ppo_and_friends.reporting.report import IterationReport

Table = dict[str, NDArray[np.float64]]
"""Columns by name, each [iterations], NaN where unknown."""


def row_of(report: IterationReport) -> dict[str, float]:
    """An iteration's metrics, named like the columns of ``progress.csv``."""
    return {
        "iteration": float(report.iteration),
        "timesteps": float(report.timesteps),
        "seconds": report.seconds,
        **report.metrics,
    }


class MetricsTable:
    """A growing table, stored by column with 8 bytes per value."""

    def __init__(self) -> None:
        """Start empty."""
        self._columns: dict[str, array[float]] = {}
        self._rows = 0

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row. A new column is NaN in all earlier rows."""
        for name in row:
            if name not in self._columns:
                self._columns[name] = array("d", [nan]) * self._rows
        for name, column in self._columns.items():
            column.append(row.get(name, nan))
        self._rows += 1

    def columns(self) -> Table:
        """Copies of the columns, in the order of ``progress.csv``."""
        empty: Any = array("d", [nan]) * self._rows
        return {name: np.array(self._columns.get(name, empty)) for name in ordered_columns(self._columns)}
