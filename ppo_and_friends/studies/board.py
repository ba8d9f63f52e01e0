"""One table of the progress of all runs, on a terminal in place, elsewhere a line for each change."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ppo_and_friends.common.formatting import format_count, format_duration, format_value
from ppo_and_friends.studies.plan import StudyRun, progress_of

WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
STYLES = {WAITING: "dim", RUNNING: "cyan", DONE: "green", FAILED: "red", STOPPED: "yellow"}

WIDTH = 200
"""Columns where there is no terminal."""

MOST_ROWS = 40
"""Runs in the table; of more, those that wait or are done are counted only."""


class Board:
    """Shows the states of a study's runs. ``states`` and ``reasons`` belong to whoever runs them."""

    def __init__(self, runs: Sequence[StudyRun], file: TextIO | None = None) -> None:
        """Start with all runs waiting.

        Args:
            runs: In the order of the table.
            file: Where to write; None: standard output.
        """
        self.runs = list(runs)
        self.states = {run.folder: WAITING for run in runs}
        self.reasons: dict[Path, str] = {}
        file = file or sys.stdout
        # Lines that aren't wrapped can be searched.
        self._console = Console(file=file, highlight=False, width=None if file.isatty() else WIDTH)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._shown: dict[Path, str] = {}
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        """Open the table."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the final table and the failures."""
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
            self._live.stop()
        else:
            self._console.print(self.table())
        failed = [run for run in self.runs if self.states[run.folder] == FAILED]
        if failed:
            self._console.print(f"{len(failed)} of {len(self.runs)} runs failed:")
            for run in failed:
                self._console.print(
                    f"  {run.label}: {self.reasons.get(run.folder, 'unknown reason')}",
                    markup=False,
                    soft_wrap=True,
                )

    def refresh(self) -> None:
        """Show what has changed."""
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
            return
        for run in self.runs:
            state = self.states[run.folder]
            if state != self._shown.get(run.folder, WAITING):
                progress = progress_of(run.folder)
                score = "" if math.isnan(progress.score) else f", score {format_value(progress.score)}"
                at = f" at {progress.timesteps:,} timesteps{score}" if progress.timesteps else ""
                self._console.print(f"{run.label}: {state}{at}", markup=False, soft_wrap=True)
            self._shown[run.folder] = state

    def table(self) -> Table:
        """The table as it is now."""
        counts = {state: list(self.states.values()).count(state) for state in STYLES}
        title = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        table = Table(
            title=f"{len(self.runs)} runs: {title}, {format_duration(time.monotonic() - self._start)}",
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
        )
        table.add_column("run", overflow="fold")
        table.add_column("state")
        for name in ("timesteps", "", "score", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for run in self._rows():
            state, progress = self.states[run.folder], progress_of(run.folder)
            share = min(1.0, progress.timesteps / run.total)
            table.add_row(
                run.label,
                f"[{STYLES[state]}]{state}[/]",
                format_count(progress.timesteps),
                f"{share:.0%}",
                format_value(progress.score),
                format_duration(progress.seconds),
            )
        return table

    def _rows(self) -> list[StudyRun]:
        if len(self.runs) <= MOST_ROWS:
            return self.runs
        busy = [run for run in self.runs if self.states[run.folder] in (RUNNING, FAILED, STOPPED)]
        return busy[-MOST_ROWS:]
