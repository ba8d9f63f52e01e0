"""What settings were called in earlier formats: for what was saved then, and for those who remember it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.settings.schedules import Schedule

FORMAT = 3
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


def migrated(settings: Mapping[str, Any], format: int = 1) -> dict[str, Any]:
    """An experiment's plain settings, as they were saved, in today's format.

    Args:
        settings: As ``experiment.json`` has them under ``experiment``; they are left as they are.
        format: The record's format; 1 if it says nothing. Settings of today's format come back unchanged,
            whatever is said here.
    """
    new = copy.deepcopy(dict(settings))
    if format < 2:
        new = _from_format_1(new)
    return new if format >= FORMAT else _with_renamed_metrics(new)


def _from_format_1(new: dict[str, Any]) -> dict[str, Any]:
    for section, names in RENAMED.items():
        place = new if not section else new.get(section)
        if isinstance(place, dict):
            new = {**new, section: renamed(place, names)} if section else renamed(new, names)
    if isinstance(new.get("friends"), list | tuple):
        _migrate_friends(new)
    return new


def _with_renamed_metrics(values: Any) -> Any:
    """Settings whose schedules move by numbers under their names of format 2, under today's."""
    if isinstance(values, dict):
        new = {name: _with_renamed_metrics(value) for name, value in values.items()}
        if "shape" in new and isinstance(new.get("by"), str):
            new["by"] = RENAMED_METRICS.get(new["by"], new["by"])
        return new
    return [_with_renamed_metrics(value) for value in values] if isinstance(values, list) else values


def migrated_network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's network settings, which have no format of their own, under today's names."""
    return renamed(settings, RENAMED["network"])


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same values in the same order, some of them under new names."""
    return {names.get(name, name): value for name, value in values.items()}


ANNEALING: Mapping[str, str] = {
    "LearningRateAnnealing": "learning_rate",
    "ClipAnnealing": "clip_range",
    "EntropyAnnealing": "entropy_coefficient",
}
"""Friends of format 1 that are schedules of a setting now; what they saved is needed no more."""

MOVING: Mapping[str, tuple[str, str, float]] = {
    "AdaptiveLearningRate": ("target", "last_target", 0.01),
    "RewardClip": ("low", "last_low", -1.0),
}
"""Friend to the argument that moved in format 1, the one that said where to, and the first one's default."""

Settings = dict[str, Any]


def _migrate_friends(settings: Settings) -> None:
    """Turn friends of format 1 into what does the same now, in place."""
    kept = []
    for friend in settings["friends"]:
        if not isinstance(friend, dict) or not isinstance(friend.get("arguments"), dict):
            kept.append(friend)
            continue
        name, arguments = str(friend.get("name")), friend["arguments"]
        if name in ANNEALING and isinstance(settings.get("ppo"), dict):
            settings["ppo"][ANNEALING[name]] = _annealed(settings["ppo"].get(ANNEALING[name]), arguments)
        elif name not in ANNEALING and name != "SoftReset":
            kept.append(_migrated_friend(friend))
    settings["friends"] = kept


def _migrated_friend(friend: Settings) -> Settings:
    name, arguments = str(friend.get("name")), dict(friend["arguments"])
    if name == "DeviationAnnealing":
        limit = _moving(**({"start": 1.0, "end": 0.1} | arguments))
        return {**friend, "name": "StdClip", "arguments": {"limit": limit}}
    if name in MOVING:
        moving, last, default = MOVING[name]
        if arguments.get(last) is not None:
            arguments[moving] = _moving(arguments.get(moving, default), arguments[last])
        arguments.pop(last, None)
    return {**friend, "arguments": renamed(arguments, RENAMED_ARGUMENTS.get(name, {}))}


def _moving(start: float, end: float, shape: str = "linear") -> Settings:
    """A schedule as today's settings are saved, so that it counts as the same in comparisons."""
    plain = asdict(Schedule(float(start), float(end), shape))  # type: ignore[arg-type]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _annealed(setting: Any, arguments: Settings) -> Settings:
    """The schedule that a setting and the friend that moved it made together.

    Where both moved, the friend began at the setting's first value.
    """
    first = setting["start"] if isinstance(setting, dict) else setting
    start = first if arguments.get("start") is None else arguments["start"]
    end, shape = arguments.get("end", 0.0), arguments.get("shape", "linear")
    if shape != "steps":
        return {"start": start, "end": end, "shape": shape}
    factor = arguments.get("factor", 0.1)
    values = [max(start * factor ** (1 + index), min(end, start)) for index in range(len(arguments["at"]))]
    by = "episode_return_mean_100" if arguments.get("by") == "score" else "timesteps"
    return {"start": start, "end": None, "shape": "steps", "at": arguments["at"], "values": values, "by": by}
