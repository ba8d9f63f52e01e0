"""Standard output whose reader may leave early, as ``| head`` does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class PatientOutput:
    """A text file that ignores a closed pipe, so that a training doesn't end when its reader does."""

    def __init__(self, file: TextIO) -> None:
        """Write to ``file``."""
        self._file = file

    def __getattr__(self, name: str) -> Any:
        """Everything else is the file's own."""
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write the text, unless the pipe is closed."""
        try:
            return self._file.write(text)
        except BrokenPipeError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        """Flush, unless the pipe is closed."""
        try:
            self._file.flush()
        except BrokenPipeError:
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        # The descriptor itself, since Python flushes the file once more at its end.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def patient_output() -> Iterator[None]:
    """Context in which standard output is a `PatientOutput`."""
    before = sys.stdout
    output = PatientOutput(before)
    sys.stdout = output
    try:
        yield
    finally:
        output.flush()
        sys.stdout = before
