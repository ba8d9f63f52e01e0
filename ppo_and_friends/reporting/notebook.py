"""Progress in a Jupyter notebook: a single output that is updated in place."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console

from ppo_and_friends.reporting.console import ConsoleReporter
from ppo_and_friends.reporting.report import IterationReport, RunStart

UPDATE_SECONDS = 1.0
"""Minimum seconds between updates."""

WIDTH = 100
"""Width of the output in characters."""

FORMAT = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def make_console(verbosity: int = 0, file: TextIO | None = None) -> ConsoleReporter:
    """The reporter that shows progress to the user: in a notebook, on a terminal, or as lines of a log.

    Args:
        verbosity: -1 warnings only, 0 as usual, 1 everything.
        file: Where to write; None: the notebook, or standard output.
    """
    if file is None and in_notebook():
        return NotebookReporter(verbosity=verbosity)
    return ConsoleReporter(verbosity=verbosity, file=file)


class _Picture:
    """A displayable object: HTML, with plain text as the fallback."""

    def __init__(self, renderable: Any) -> None:
        # Otherwise rich would detect the notebook and display by itself.
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
    """The terminal's live display as an output of the notebook's cell."""

    def __init__(
        self,
        *,
        verbosity: int = 0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Display below the running cell; messages are written to ``file`` (None: standard output)."""
        super().__init__(verbosity=verbosity, file=file, clock=clock)
        self._display: Any = None
        self._drawn_at = 0.0

    def start(self, run: RunStart) -> None:
        """Show what is trained, and create the output."""
        super().start(run)
        if self._verbosity >= 0:
            show = sys.modules["IPython"].display.display
            self._display = show(_Picture(self._picture()), display_id=True)
            self._drawn_at = self._clock()

    def iteration(self, report: IterationReport) -> None:
        """Update the output if the last update is long enough ago."""
        super().iteration(report)
        if self._display is not None and self._clock() - self._drawn_at >= UPDATE_SECONDS:
            self._draw()

    def interrupted(self, text: str) -> bool:
        """Keep the text for the next update: signal handlers can't display."""
        self._announced = text
        return self._display is not None

    def close(self) -> None:
        """Show the final state, which stays below the cell."""
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
