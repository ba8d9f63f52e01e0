"""What environments print: kept from the terminal, counted, and reported in a line."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, TextIO, cast

FIRST_CHARACTERS = 60
"""Characters of the first printed line that are reported."""

DEBUGGERS = ("pdb", "cmd", "bdb", "code", "IPython")
"""Packages whose output is meant for the terminal even while environments are stepped."""


class Output:
    """A context manager, to be entered many times, in which this thread's ``print`` is counted, not shown.

    Debuggers and other threads print as usual.

    Attributes:
        lines: Lines printed so far.
        first: The first that wasn't empty.
    """

    def __init__(self) -> None:
        """Nothing was printed yet."""
        self.lines = 0
        self.first = ""
        self._rest = ""

    def __enter__(self) -> Output:
        """Take standard output's place."""
        _stdout.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        _stdout.leave()

    def add(self, text: str) -> None:
        """Count the lines of a printed text."""
        *lines, self._rest = (self._rest + text).split("\n")
        self.lines += len(lines)
        if lines and not self.first:
            self.first = next((line.strip() for line in lines if line.strip()), "")

    def notice(self) -> str | None:
        """A sentence about what was printed; None if nothing was."""
        if not self.lines:
            return None
        first = self.first[:FIRST_CHARACTERS] + ("..." if len(self.first) > FIRST_CHARACTERS else "")
        begins = f", beginning with {first!r}" if first else ""
        return f"The environments printed {self.lines:,} line{'s' * (self.lines != 1)}{begins}: not shown."


class _Stdout:
    """Stands for ``sys.stdout``, of which a process has one, while any thread is inside an `Output`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._real: TextIO = sys.stdout
        self._own = threading.local()

    def enter(self, output: Output) -> None:
        with self._lock:
            if not self._inside:
                self._real, sys.stdout = sys.stdout, cast(TextIO, self)
            self._inside += 1
        self._own.output = output

    def leave(self) -> None:
        self._own.output = None
        with self._lock:
            self._inside -= 1
            if not self._inside and cast(Any, sys.stdout) is self:
                sys.stdout = self._real

    def write(self, text: str) -> int:
        output: Output | None = getattr(self._own, "output", None)
        writer = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
        if output is None or writer in DEBUGGERS:
            return self._real.write(text)
        output.add(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_stdout = _Stdout()
