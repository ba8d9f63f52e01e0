"""Where the time of an iteration goes."""

from __future__ import annotations

import time


class Lap:
    """A context manager that adds up the time spent inside. It isn't reentrant."""

    __slots__ = ("_start", "seconds")

    def __init__(self) -> None:
        """Start at 0."""
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Add the elapsed time, also after an exception."""
        self.seconds += time.perf_counter() - self._start


class Stopwatch:
    """Adds up wall-clock seconds by name."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Start all ``names`` at 0."""
        self._laps = {name: Lap() for name in names}

    def measure(self, name: str) -> Lap:
        """A context that adds the time that its body takes to ``name``."""
        return self._laps[name]

    def take(self) -> dict[str, float]:
        """The sums by name, in seconds; resets them to 0."""
        taken = {name: lap.seconds for name, lap in self._laps.items()}
        for lap in self._laps.values():
            lap.seconds = 0.0
        return taken
