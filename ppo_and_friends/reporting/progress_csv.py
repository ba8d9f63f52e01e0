"""``progress.csv``: the plain record of a run, one row an iteration."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter

COLUMNS = (
    "iteration",
    "timesteps",
    "seconds",
    "steps_per_second",
    "episodes",
    "episode_return_mean",
    "episode_return_std",
    "episode_return_min",
    "episode_return_max",
    "episode_length_mean",
    "policy_loss",
    "value_loss",
    "entropy",
    "kl",
    "clip_fraction",
    "explained_variance",
    "learning_rate",
    "gradient_norm",
)
"""The columns every file has, in this order; others follow, sorted."""

Row = dict[str, str]


def ordered_columns(names: Iterable[str]) -> list[str]:
    """The standard columns, then the other ``names``, sorted."""
    return [*COLUMNS, *sorted(set(names) - set(COLUMNS))]


def format_number(value: float) -> str:
    """A number for the file: ten significant digits, whole numbers without a point, NaN blank."""
    value = float(value)
    if math.isnan(value):
        return ""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.10g}"


def row_of(report: IterationReport) -> Row:
    """The report's cells by column."""
    row = {name: format_number(value) for name, value in report.metrics.items()}
    row["iteration"] = str(report.iteration)
    row["timesteps"] = str(report.timesteps)
    row["seconds"] = format_number(round(report.seconds, 3))
    return row


def _text_of(columns: Sequence[str], rows: Iterable[Mapping[str, str]], header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return buffer.getvalue()


def parse_rows(data: bytes) -> tuple[list[str], list[Row]]:
    """Columns and rows of a progress file's content, as `read_rows` has them."""
    text = data.decode("utf-8", errors="replace").replace("\0", "")
    torn = bool(text) and not text.endswith("\n")
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or (torn and len(lines) == 1):
        return [], []
    columns = [RENAMED_METRICS.get(name, name) for name in lines[0]]
    if torn:
        lines[-1] = lines[-1][:-1]
    rows = []
    for cells in lines[1:]:
        row = dict(zip(columns, cells, strict=False))
        if row.get("iteration", "").isdecimal():
            rows.append({column: row.get(column, "") for column in columns})
    return columns, rows


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Read a progress file, forgiving a last line that was cut short.

    Of a line without an end, the last cell can't be trusted and becomes blank, as do the cells that
    are missing; a line whose iteration is in doubt is left out.

    Args:
        path: A ``progress.csv``.

    Returns:
        Columns and rows (cells as text, blank where unknown). Both empty if there is no such file.
    """
    try:
        return parse_rows(path.read_bytes())
    except FileNotFoundError:
        return [], []


class ProgressCSV(SilentReporter):
    """Appends a row an iteration, so that what is there is never lost.

    Resuming at iteration k drops the rows of later iterations, since these are trained again.
    A metric that appears later adds a column; the file is then rewritten as a whole, atomically.
    Rows that can't be written (a full disk) are kept and tried again with the next one.
    """

    must_not_stop = True

    def __init__(self, path: Path) -> None:
        """Write to ``path``; nothing is touched before `start`."""
        self._path = path
        self._resumed_from: int | None = None
        self._begun = False
        self._columns: list[str] = list(COLUMNS)
        self._pending: list[Row] = []
        self._size = 0
        """Bytes of the file that are whole rows; what lies beyond is a failed attempt."""

    def start(self, run: RunStart) -> None:
        """Begin the file, or take up the one that is there, up to and with row ``run.resumed_from``."""
        self._resumed_from, self._begun = run.resumed_from, False
        self._begin()

    def iteration(self, report: IterationReport) -> None:
        """Append the row, with those that could not be written before."""
        self._pending.append(row_of(report))
        self._flush()

    def finish(self, summary: str) -> None:
        """Try a last time to write the rows that could not be written."""
        if self._pending:
            self._flush()

    def _begin(self) -> None:
        rows: dict[int, Row] = {}
        self._columns = list(COLUMNS)
        if self._resumed_from is not None:
            columns, old = read_rows(self._path)
            self._columns = ordered_columns(columns)
            rows = {int(row["iteration"]): row for row in old if int(row["iteration"]) <= self._resumed_from}
        self._rewrite(self._columns, [rows[iteration] for iteration in sorted(rows)])
        self._begun = True

    def _flush(self) -> None:
        if not self._begun:
            self._begin()
        size = self._path.stat().st_size if self._path.exists() else 0
        new = {name for row in self._pending for name in row} - set(self._columns)
        if new or size < self._size:
            # A column is added; or somebody shortened or removed the file, and it begins anew.
            columns, rows = parse_rows(self._path.read_bytes()[: self._size] if size else b"")
            self._rewrite(ordered_columns([*self._columns, *columns, *new]), [*rows, *self._pending])
        else:
            self._append()
        self._pending.clear()

    def _rewrite(self, columns: list[str], rows: Sequence[Row]) -> None:
        data = _text_of(columns, rows, header=True).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, data)
        self._columns, self._size = columns, len(data)

    def _append(self) -> None:
        data = _text_of(self._columns, self._pending, header=False).encode()
        # Opened anew each time, so that a copy or a replacement meanwhile does no harm.
        with open(self._path, "r+b", buffering=0) as file:
            file.truncate(self._size)
            file.seek(self._size)
            written = file.write(data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written to {self._path}")
        self._size += len(data)
