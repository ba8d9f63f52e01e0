"""The file of times to a score: written after every run, so that what was measured is never lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runs import source_state
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.errors import UsageError

Row = dict[str, Any]
"""score, ranks and set of a launcher's runs, and its runs: ours and sb3."""

SIDES = ("ours", "sb3")


class TimeResults:
    """Rows by launcher, as the file has them. Other launchers' rows stay as they are."""

    def __init__(self, path: Path, asked: dict[str, Row], *, resume: bool) -> None:
        """Read the file, if there is one.

        Args:
            path: The JSON file; a table goes beside it.
            asked: Score, ranks and set of each launcher that is to be measured.
            resume: Keep these launchers' runs that the file has, if they were asked for alike.

        Raises:
            UsageError: The file can't be understood.
        """
        self._path = path
        self.rows: dict[str, Row] = self._read()
        for name, terms in asked.items():
            known = self.rows.get(name, {})
            alike = all(known.get(key) == value for key, value in terms.items())
            runs = {side: list(known[side]) if resume and alike else [] for side in SIDES}
            self.rows[name] = terms | runs

    def _read(self) -> dict[str, Row]:
        if not self._path.exists():
            return {}
        try:
            rows: dict[str, Row] = json.loads(self._path.read_bytes())["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self._path} holds no times to a score: remove it, or give --output."
            ) from error
        return rows

    def missing(
        self, seeds: Iterable[int], names: Iterable[str], sides: Sequence[str]
    ) -> list[tuple[int, str, str]]:
        """(seed, launcher, side) of the runs to do, in turns: sides beside each other, seed by seed."""
        names = list(names)
        return [
            (seed, name, side)
            for seed in seeds
            for name in names
            for side in sides
            if all(run["seed"] != seed for run in self.rows[name][side])
        ]

    def add(self, name: str, side: str, run: dict[str, Any]) -> None:
        """Take a run in, and write the file and the table."""
        source = source_state()
        stamp = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": source["commit"]}
        self.rows[name][side].append(run | stamp)
        everything = {"source": source, "versions": library_versions(), "rows": self.rows}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, (json.dumps(everything, indent=1) + "\n").encode())
        replace_file(self._path.with_suffix(".md"), table(self.rows).encode())


def median_time(runs: Sequence[dict[str, Any]], which: str = "reached") -> str:
    """``seconds (timesteps)``, the median over the runs, and how many reached it."""
    reached = [run[which] for run in runs if run.get(which)]
    if not reached:
        return f"never (0 of {len(runs)})" if runs else "-"
    seconds, steps = (np.median([one[key] for one in reached]) for key in ("seconds", "timesteps"))
    return f"{seconds:,.1f} s ({steps:,.0f} steps; {len(reached)} of {len(runs)})"


def table(rows: dict[str, Row]) -> str:
    """Markdown."""
    head = ("environment", "score", "ours", "ours, evaluated", "SB3, zoo settings")
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---:|---:|---:|"]
    for name, row in rows.items():
        cells = [name, f"{row['score']:g}", median_time(row["ours"])]
        judged = any("evaluated" in run for run in row["ours"])
        cells += [median_time(row["ours"], "evaluated") if judged else "-", median_time(row["sb3"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
