"""What settings were called in earlier formats: for what was saved then, and for those who remember it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""Of the settings in ``experiment.json`` and in checkpoints; a record without a number has format 1."""

RENAMED: Mapping[str, Mapping[str, str]] = {
    "": {"target_score": "reward_threshold"},
    "ppo": {
        "clip": "clip_range",
        "discount": "gamma",
        "trace_decay": "gae_lambda",
        "entropy_weight": "entropy_coefficient",
        "value_weight": "value_coefficient",
        "value_clip": "value_clip_range",
        "max_gradient_norm": "max_grad_norm",
    },
    "network": {"initial_log_std": "log_std_init"},
}
"""Section to what settings were called in format 1, and are called now."""

RENAMED_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "RewardNormalizer": {"discount": "gamma"},
    "ICM": {"discount": "gamma"},
    "RND": {"discount": "gamma", "trace_decay": "gae_lambda"},
}
"""Friend to what its arguments were called in format 1, and are called now."""

RENAMED_COLUMNS: Mapping[str, str] = {"clip": "clip_range"}
"""What columns of ``progress.csv`` were called, and are called now."""


def migrated(settings: Mapping[str, Any], format: int = 1) -> dict[str, Any]:
    """An experiment's plain settings, as they were saved, in today's format.

    Args:
        settings: As ``experiment.json`` has them under ``experiment``; they are left as they are.
        format: The record's format; 1 if it says nothing. Settings of today's format come back unchanged,
            whatever is said here.
    """
    new = copy.deepcopy(dict(settings))
    if format >= FORMAT:
        return new
    for section, names in RENAMED.items():
        place = new if not section else new.get(section)
        if isinstance(place, dict):
            new = {**new, section: renamed(place, names)} if section else renamed(new, names)
    if isinstance(new.get("friends"), list):
        new["friends"] = [_migrated_friend(friend) for friend in new["friends"]]
    return new


def migrated_network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's network settings, which have no format of their own, under today's names."""
    return renamed(settings, RENAMED["network"])


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same values in the same order, some of them under new names."""
    return {names.get(name, name): value for name, value in values.items()}


def _migrated_friend(friend: Any) -> Any:
    if not isinstance(friend, dict) or not isinstance(friend.get("arguments"), dict):
        return friend
    names = RENAMED_ARGUMENTS.get(str(friend.get("name")), {})
    return {**friend, "arguments": renamed(friend["arguments"], names)}
