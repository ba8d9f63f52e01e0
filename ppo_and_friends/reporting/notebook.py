"""Progress in a Jupyter notebook: one output that is replaced as training goes on."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from rich.console import Console

from ppo_and_friends.reporting.console import ConsoleReporter
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.settings.experiment import Experiment

UPDATE_SECONDS = 1.0
"""Least seconds between two pictures: each is kept in the browser until the next one comes."""

WIDTH = 100
"""Of a picture, in characters."""

FORMAT = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel: only such a process can show anything but text."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def make_console(verbosity: int = 0, stream: TextIO | None = None) -> ConsoleReporter:
    """What shows the progress to whoever started the run: in a notebook, or on a terminal or log.

    Args:
        verbosity: -1 warnings only, 0 as usual, 1 everything.
        stream: Where to write; None: the notebook, or standard output.
    """
    if stream is None and in_notebook():
        return NotebookReporter(verbosity=verbosity)
    return ConsoleReporter(verbosity=verbosity, stream=stream)


class _Picture:
    """What Jupyter displays: HTML, and plain text where there is none."""

    def __init__(self, renderable: Any) -> None:
        # Rich would find the notebook too, and display by itself.
        console = Console(
            file=io.StringIO(),
            width=WIDTH,
            record=True,
            force_jupyter=False,
            force_terminal=True,
            color_system="truecolor",
            highlight=False,
        )
        console.print(renderable)
        self._html = console.export_html(inline_styles=True, code_format=FORMAT, clear=False)
        self._text = console.export_text()

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


class NotebookReporter(ConsoleReporter):
    """The terminal's picture of the training, as an output of the notebook's cell."""

    def __init__(
        self,
        *,
        verbosity: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show it below the running cell; messages are written to ``stream`` (None: standard output)."""
        super().__init__(verbosity=verbosity, stream=stream, clock=clock)
        self._display: Any = None
        self._drawn_at = 0.0

    def start(
        self,
        experiment: Experiment,
        ranks: int,
        resumed_from: int | None = None,
        notes: Sequence[str] = (),
        *,
        resumed_timesteps: int | None = None,
    ) -> None:
        """Say what is trained, and show a first picture."""
        super().start(experiment, ranks, resumed_from, notes, resumed_timesteps=resumed_timesteps)
        if self._verbosity >= 0:
            show = sys.modules["IPython"].display.display
            self._display = show(_Picture(self._picture()), display_id=True)
            self._drawn_at = self._clock()

    def iteration(self, report: IterationReport) -> None:
        """Replace the picture, if the last one is long enough ago."""
        super().iteration(report)
        if self._display is not None and self._clock() - self._drawn_at >= UPDATE_SECONDS:
            self._draw()

    def interrupted(self, text: str) -> bool:
        """Keep the text for the last picture; a signal handler can't draw."""
        self._announced = text
        return self._display is not None

    def close(self) -> None:
        """Show the last state; the picture stays as it is."""
        if self._display is not None:
            self._draw()
        self._display = None
        super().close()

    def _line(self, report: IterationReport) -> None:
        if self._display is None:
            super()._line(report)

    def _draw(self) -> None:
        self._drawn_at, self._last_shown = self._clock(), True
        self._display.update(_Picture(self._picture()))
