"""Types of settings, with their ranges, and how settings are validated."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Widths = tuple[Positive, ...]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
