"""Where the time of an iteration goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall-clock seconds by name."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Start all ``names`` at 0."""
        self.seconds = dict.fromkeys(names, 0.0)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The sums, which start at 0 again."""
        taken = self.seconds
        self.seconds = dict.fromkeys(taken, 0.0)
        return taken
