"""Where the time of an iteration goes."""

from __future__ import annotations

import time

from ppo_and_friends.distributed.pulse import PULSE

TIMED = ("environment", "inference", "update", "communication", "evaluation")
"""Parts of an iteration whose durations are reported."""


class Lap:
    """A context whose seconds are added up, without those of other laps inside it."""

    __slots__ = ("_running", "_start", "seconds")

    def __init__(self, running: list[Lap]) -> None:
        """Start at 0.

        Args:
            running: The stopwatch's laps that were entered and not left, the innermost last.
        """
        self.seconds = 0.0
        self._start = 0.0
        self._running = running

    def __enter__(self) -> None:
        """Stop the clock of the lap around this one, and start this one's."""
        now = time.perf_counter()
        if self._running:
            around = self._running[-1]
            around.seconds += now - around._start
        self._running.append(self)
        self._start = now

    def __exit__(self, *_: object) -> None:
        """Add the time since, and go on with the lap around; also when an exception ended the body."""
        now = time.perf_counter()
        self.seconds += now - self._start
        self._running.pop()
        if self._running:
            self._running[-1]._start = now
        PULSE.beats += 1  # not a call: this is inside the innermost loops


class Stopwatch:
    """Divides wall-clock seconds among names: every moment counts for the innermost lap alone."""

    def __init__(self, names: tuple[str, ...] = TIMED) -> None:
        """Start all ``names`` at 0."""
        running: list[Lap] = []
        self._laps = {name: Lap(running) for name in names}

    def measure(self, name: str) -> Lap:
        """A context that adds the time that its body takes to ``name``."""
        return self._laps[name]

    def take(self) -> dict[str, float]:
        """The sums by name, in seconds; they start at 0 again."""
        taken = {name: lap.seconds for name, lap in self._laps.items()}
        for lap in self._laps.values():
            lap.seconds = 0.0
        return taken
