"""Values that change with the progress of training."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Schedule:
    """A value that moves linearly from ``start`` to ``end`` over the run's timesteps.

    On the command line: ``3e-4`` is constant, ``1e-3:0`` goes from 1e-3 to 0.
    """

    start: NonNegative
    """Value at the first timestep."""

    end: NonNegative | None = None
    """Value at the last timestep; None: constant."""

    def at(self, progress: float) -> float:
        """The value at ``progress``, the share of the timesteps that is done, in [0, 1]."""
        if self.end is None:
            return self.start
        return self.start + (self.end - self.start) * min(max(progress, 0.0), 1.0)


def linear(start: float, end: float = 0.0) -> Schedule:
    """A schedule from ``start`` at the first timestep to the floor ``end`` at the last."""
    return Schedule(start, end)


def _to_schedule(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return Schedule(float(value))
    if isinstance(value, str):
        try:
            numbers = [float(part) for part in value.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise ValueError("neither a number nor START:END")
        return Schedule(*numbers)
    return value


ScheduleLike = Annotated[Schedule, BeforeValidator(_to_schedule)]
"""A field of this type also accepts a number (constant) or the text ``start:end``."""
