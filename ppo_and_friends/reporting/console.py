"""The terminal: a live display where there is one, plain lines where there is none."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ppo_and_friends.common.infos import PREFIX
from ppo_and_friends.reporting.display import more_lines, plain_line, render
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import Level, SilentReporter
from ppo_and_friends.reporting.run_metrics import EVALUATED

OF_EPISODES = (
    "episode_return_mean",
    "episode_return_std",
    "episode_return_min",
    "episode_return_max",
    "episode_length_mean",
)
"""Metrics that are unknown in an iteration in which no episode ended."""

REFRESHES = 1
"""Times a second that the live display is drawn; more would cost more than 1 % of the time."""

RATE_WINDOW = 20
"""Iterations over which the rate for the time left is taken."""


def is_live(file: TextIO) -> bool:
    """Whether a live display can be shown: a terminal that knows cursor movements."""
    try:
        terminal = file.isatty()
    except ValueError:
        return False
    return terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def line_interval(elapsed: float) -> float:
    """Least seconds between plain lines: 5, later 1 % of the time so far, at most 60."""
    return min(max(5.0, elapsed / 100), 60.0)


class _Console(Console):
    """A console that keeps the cursor visible, so that even a killed run leaves the terminal usable."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class ConsoleReporter(SilentReporter):
    """Shows the progress in the terminal."""

    def __init__(
        self,
        *,
        verbosity: int = 0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show it on ``file`` (None: standard output).

        Args:
            verbosity: -1 warnings only, 0 as usual, 1 everything (every iteration, all metrics).
            file: A terminal gets a live display, anything else plain lines.
            clock: Seconds, for the interval between plain lines.
        """
        self._file = sys.stdout if file is None else file
        self._verbosity = verbosity
        self._clock = clock
        self._live: Live | None = None
        self._console: _Console | None = None
        self._title = ""
        self._last: IterationReport | None = None
        self._last_shown = False
        self._scores: dict[str, float] = {}
        self._announced = ""
        self._begun = self._printed_at = 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=RATE_WINDOW + 1)

    def start(self, run: RunStart) -> None:
        """Show what is trained, and begin the live display."""
        self._begun = self._clock()
        self._recent.clear()
        self._last = None
        self._scores = {}
        experiment, ranks = run.experiment, run.ranks
        where = f"{ranks} rank{'s' * (ranks != 1)}"
        self._title = f"{experiment.name}, {where}"
        if self._verbosity >= 0 and is_live(self._file):
            self._console = _Console(file=self._file, highlight=False, force_jupyter=False)
        if self._verbosity >= 0:
            environments = f"{experiment.environment.num_envs} environments on {where}"
            begin = "new run" if run.resumed_from is None else f"resumed after iteration {run.resumed_from}"
            self._print(f"{experiment.name} ({experiment.environment.id}): {environments}, {begin}")
            for note in run.notes:
                self._print(note)
        if self._console is not None:
            self._live = Live(
                console=self._console,
                get_renderable=self._picture,
                refresh_per_second=REFRESHES,
                redirect_stderr=sys.stderr.isatty(),
                redirect_stdout=self._file is sys.stdout,
            )
            self._live.start()

    def iteration(self, report: IterationReport) -> None:
        """Renew the display, or print a line if the last one is long enough ago."""
        report = self._with_latest_scores(report)
        # In this order, since another thread may draw the report as soon as it is set.
        self._recent.append((report.timesteps, report.seconds))
        first, self._last, self._last_shown = self._last is None, report, False
        if self._verbosity < 0:
            return
        if self._live is not None:
            self._last_shown = True  # the next time that it is drawn
            return
        now = self._clock()
        last = report.timesteps >= report.num_timesteps
        due = now - self._printed_at >= line_interval(now - self._begun)
        if first or last or due or self._verbosity > 0:
            self._line(report)

    def message(self, text: str, *, level: Level = "note") -> None:
        """Show a line above the live display; ``--quiet`` leaves only warnings."""
        if level == "warning":
            self._print(f"Warning: {text}", style="bold yellow")
        elif self._verbosity >= 0:
            self._print(text)

    def interrupted(self, text: str) -> bool:
        """Show the text below the live display, the next time it is drawn: writing now would tear it."""
        self._announced = text
        return self._live is not None

    def finish(self, summary: str) -> None:
        """End the display with its last state, and show the summary."""
        if self._verbosity >= 0 and self._last is not None and not self._last_shown:
            self._line(self._last)
        self.close()
        if self._verbosity >= 0:
            self._print(summary)

    def close(self) -> None:
        """End the live display; the terminal is as before."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _with_latest_scores(self, report: IterationReport) -> IterationReport:
        """The report, with the last known scores: of an iteration's episodes, and of an evaluation."""
        for known, names in (("episode_return_mean", OF_EPISODES), (EVALUATED, (EVALUATED,))):
            if not math.isnan(report.metric(known)):
                infos = [name for name in report.metrics if name.startswith(PREFIX) and names == OF_EPISODES]
                self._scores |= {name: report.metric(name) for name in (*names, *infos)}
        return replace(report, metrics={**report.metrics, **self._scores}) if self._scores else report

    def _seconds_left(self) -> float:
        (steps, seconds), (later_steps, later_seconds) = self._recent[0], self._recent[-1]
        if self._last is None:
            return float("nan")
        if later_steps > steps and later_seconds > seconds:
            rate = (later_steps - steps) / (later_seconds - seconds)
        else:
            rate = self._last.metric("steps_per_second")
        return max(0, self._last.num_timesteps - self._last.timesteps) / rate if rate > 0 else float("nan")

    def _picture(self) -> Any:
        """What the live display shows; made only when it is drawn, which costs 3 ms."""
        report = self._last
        if report is None:
            picture: Any = Text(f"{self._title}: first iteration ...")
        else:
            picture = render(self._title, report, self._seconds_left(), everything=self._verbosity > 0)
        # The last line is short, so that the terminal's own ^C doesn't go on to the next one.
        return Group(picture, Text(self._announced, style="bold yellow"))

    def _line(self, report: IterationReport) -> None:
        self._printed_at, self._last_shown = self._clock(), True
        self._print(plain_line(report, self._seconds_left()))
        for line in more_lines(report) if self._verbosity > 0 else ():
            self._print(line)

    def _print(self, text: str, style: str | None = None) -> None:
        if self._console is not None:
            # Soft: the terminal breaks long lines, so that paths and commands can still be copied.
            self._console.print(Text(text, style=style or ""), soft_wrap=True)
            return
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        if not encoding.lower().startswith("utf"):
            text = text.replace("±", "+/-").encode(encoding, "replace").decode(encoding)
        self._file.write(f"{text}\n")
        self._file.flush()
