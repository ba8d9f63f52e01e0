"""A sign of life while something takes long: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from ppo_and_friends.reporting.console import is_live

REDRAWN = 0.2
"""Least seconds between two drawings of the bar."""

PLAIN = 15.0
"""Least seconds between two plain lines; what is done earlier prints none."""

BAR = 20
"""Width of the bar in characters."""


class Waiting:
    """Call it with the share that is done, in [0, 1], and with what is being done."""

    def __init__(self, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Show it on ``file`` (None: standard error, so that results can be redirected)."""
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._live = is_live(self._file)
        self._last = clock() - (REDRAWN if self._live else 0.0)
        self._drawn = False

    def __call__(self, share: float, text: str) -> None:
        """Show how far it is, if enough time went by."""
        now = self._clock()
        if now - self._last < (REDRAWN if self._live else PLAIN):
            return
        self._last = now
        share = min(1.0, max(0.0, share))
        if not self._live:
            self._write(f"{text} ({share:.0%})\n")
            return
        filled = round(share * BAR)
        line = f"{'━' * filled}{'╌' * (BAR - filled)} {share:4.0%}  {text}"
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[2K" + line[:width])
        self._drawn = True

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wipe the bar away."""
        if self._drawn:
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, UnicodeError):  # nobody looks, or the terminal has no such characters
            self._drawn = False
