"""Signs of life of this process, which a `Watchdog` looks for."""

from __future__ import annotations


class Pulse:
    """Counts what was done, such as a step or a minibatch: anything whose absence means standing still."""

    __slots__ = ("beats",)

    def __init__(self) -> None:
        """Start at 0."""
        self.beats = 0

    def beat(self) -> None:
        """Something was done."""
        self.beats += 1


PULSE = Pulse()
"""The process's own: what beats needn't know who looks."""
