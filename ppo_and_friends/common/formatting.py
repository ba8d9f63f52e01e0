"""Formatting of numbers for people to read."""

from __future__ import annotations

import math

UNKNOWN = "-"
"""Shown in place of a number that isn't known (NaN)."""


def format_count(value: float) -> str:
    """Format a large number with three digits and a unit: 950, 12.3k, 1.26M, 3.00G."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else str(value)
    if abs(value) < 999.5:
        return f"{value:.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        scaled = value / size
        if abs(scaled) < 999.5 or unit == "T":
            magnitude = abs(scaled)
            digits = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """Format a duration in seconds as 0:07, 1:23, 2:03:04 or 3d 4h; ``-`` if it isn't finite."""
    if not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole >= 86_400:
        return f"{whole // 86_400}d {whole % 86_400 // 3600}h"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def format_value(value: float) -> str:
    """Format a measured number with 3 or 4 significant digits: 0.0123, 0.00025, 203.1, 12,346, 3.0e-07."""
    if math.isnan(value):
        return UNKNOWN
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        return f"{value:.1e}"
    if size < 0.01:
        return f"{value:.3g}"
    if value.is_integer():
        return f"{value:,.0f}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{_decimals(size)}f}"


def _decimals(size: float) -> int:
    """Return the decimal places that give a number >= 0.01 three or four significant digits."""
    return 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4


def format_spread(mean: float, spread: float) -> str:
    """Format as ``mean ± spread``, or the mean alone if the spread is unknown (NaN)."""
    if math.isnan(mean) or math.isnan(spread):
        return format_value(mean)
    larger = max(abs(mean), abs(spread))
    digits = _decimals(larger)  # the same for both, unless the spread would be rounded to zero
    whole = float(mean).is_integer() and float(spread).is_integer()
    if whole or not 0.01 <= larger < 1e7 or 0 < abs(spread) < 10.0**-digits:
        return f"{format_value(mean)} ± {format_value(spread)}"
    return f"{mean:,.{digits}f} ± {spread:,.{digits}f}"
