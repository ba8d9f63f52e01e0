"""Which numbers can be learned from: finite ones that stay finite in the networks' single precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)


def all_usable(numbers: Array) -> bool:
    """Whether every number can be learned from. Costs two passes over double precision, one over single."""
    if numbers.dtype.itemsize <= 4:
        return bool(np.isfinite(numbers).all())
    # A NaN fails every comparison, and the largest of numbers among which one is NaN is NaN.
    return not numbers.size or bool(numbers.max() <= LARGEST and numbers.min() >= -LARGEST)


def usable(numbers: Array) -> Array:
    """Which numbers can be learned from, of the same shape."""
    return np.isfinite(numbers) & (np.abs(numbers) <= LARGEST)


def reason(number: Any) -> str:
    """Why one can't be, as the end of a sentence that begins with it."""
    if np.isfinite(number):
        return f"is beyond single precision's range, which ends at {LARGEST:.2g}"
    single = isinstance(number, np.float32) and not np.isnan(number)
    return "is not a finite number" + (f", or was one beyond {LARGEST:.2g}" if single else "")
