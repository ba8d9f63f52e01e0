"""Numbers that environments report about a whole episode, such as ``is_success``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

PREFIX = "info/"
"""Before the name in metrics."""

IGNORED = frozenset(
    (
        "ppo_and_friends.life_lost",
        "action_mask",
        "TimeLimit.truncated",
        "episode",
        "final_obs",
        "final_info",
        "final_observation",
    )
)
"""Keys of Gymnasium's and this project's wrappers, whose content is reported otherwise."""

DEEPEST = 2
"""Levels of dictionaries in an info that are looked into."""


def numbers_of(info: Any, prefix: str = "", depth: int = DEEPEST) -> dict[str, float]:
    """The numbers in an episode's last info.

    Args:
        info: What ``step`` returned; anything but a dictionary holds no numbers.
        prefix: Put before each name.
        depth: Levels of dictionaries to look into.

    Returns:
        By name (``place/x`` of a dictionary in the dictionary): booleans as 0 and 1, integers, floats and
        arrays of one element. What isn't finite, larger arrays and texts are left out.
    """
    if not isinstance(info, Mapping) or depth == 0:
        return {}
    found: dict[str, float] = {}
    for key, value in info.items():
        if not isinstance(key, str) or key in IGNORED:
            continue
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{prefix}{key}/", depth - 1)
            continue
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
            number = float(value)
            if math.isfinite(number):
                found[f"{prefix}{key}"] = number
    return found


def means(infos: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over the episodes that reported it, by name, sorted.

    It is rounded once, so that it doesn't depend on the order of the episodes.
    """
    values: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(values[name]) / len(values[name]) for name in sorted(values)}
