"""Settings changed on the command line: ``--set``, ``--with`` and ``--without``, typed and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.dotted_names import as_values, changed, from_values, setting_names
from ppo_and_friends.settings.experiment import Experiment, FriendSpec

__all__ = [
    "apply_settings",
    "as_values",
    "change_friends",
    "differences",
    "environment_changes",
    "parse_call",
    "parse_friend",
    "parse_value",
    "setting_names",
    "validated",
]


CALL = re.compile(r"(?P<name>.+:[\w.]+)\((?P<arguments>.*)\)", re.DOTALL)
"""A name with arguments in brackets."""


def validated(values: dict[str, Any]) -> Experiment:
    """An experiment from nested values.

    Raises:
        UsageError: A value is of the wrong type or out of range; names the setting.
    """
    return from_values(Experiment, values)


def parse_value(text: str) -> Any:
    """A value as it is written on the command line: JSON where it is JSON, a list where it has commas."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text.startswith(("(", "[")) and text.endswith((")", "]")):
        text = text[1:-1]
        return [parse_value(part.strip()) for part in text.split(",") if part.strip()]
    pieces = split_arguments(text)
    if len(pieces) > 1:
        return [parse_value(part.strip()) for part in pieces if part.strip()]
    return text


def apply_settings(experiment: Experiment, assignments: Iterable[str]) -> Experiment:
    """Change settings by ``name=value`` texts.

    Args:
        experiment: The launcher's.
        assignments: Such as ``ppo.clip_range=0.1``, ``network.actor_hidden=64,64`` or, for a friend's
            argument, ``friends.KLEarlyStop.target=0.02``.

    Raises:
        UsageError: An unknown name (the nearest are listed) or a value that doesn't fit.
    """
    return changed(experiment, [_assigned(each) for each in assignments], said="--set ")


def environment_changes(assignments: Iterable[str]) -> dict[str, Any]:
    """Those of ``name=value`` texts that are about the environment, by dotted name.

    Raises:
        UsageError: One has no ``=``.
    """
    changes = dict(_assigned(each) for each in assignments)
    return {name: value for name, value in changes.items() if name.startswith("environment.")}


def _assigned(assignment: str) -> tuple[str, Any]:
    name, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"--set {assignment}: write it as name=value.")
    return name.strip(), parse_value(text.strip())


def parse_friend(text: str) -> FriendSpec:
    """A friend as written on the command line: ``KLEarlyStop:target=0.02``, ``my.module:MyFriend:scale=1``.

    Raises:
        UsageError: An argument isn't ``name=value``.
    """
    parts = text.split(":")
    # A value may have colons of its own, as schedules do.
    names = next((index for index, part in enumerate(parts) if "=" in part), len(parts))
    arguments: dict[str, Any] = {}
    if names < len(parts):
        for piece in split_arguments(":".join(parts[names:])):
            key, equals, value = piece.partition("=")
            if not equals:
                raise UsageError(f"--with {text}: write arguments as name=value, separated by commas.")
            arguments[key.strip()] = parse_value(value.strip())
    return FriendSpec(":".join(parts[:names]), arguments)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Take apart a name with arguments, such as ``my.module:MyWrapper(scale=2, size=[3, 4])``.

    Returns:
        ``my.module:MyWrapper`` and its keyword arguments; none if there are no brackets.

    Raises:
        UsageError: An argument isn't ``name=value``.
    """
    match = CALL.fullmatch(text.strip())
    if match is None:
        return text.strip(), {}
    arguments: dict[str, Any] = {}
    for piece in split_arguments(match["arguments"]):
        key, equals, value = piece.partition("=")
        if not equals and piece.strip():
            raise UsageError(f"{text}: write arguments as name=value, separated by commas.")
        if equals:
            arguments[key.strip()] = parse_value(value.strip())
    return match["name"], arguments


def split_arguments(text: str) -> list[str]:
    """Split ``a=1,b=[2,3],c=4`` at the commas outside brackets."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def change_friends(experiment: Experiment, added: Sequence[str], removed: Sequence[str]) -> Experiment:
    """Add and remove friends. One that is there already gets the new arguments, in its place.

    Raises:
        UsageError: A friend to remove isn't there, or one to add is written wrongly.
    """
    friends = list(experiment.friends)
    for name in removed:
        if name not in [spec.name for spec in friends]:
            there = ", ".join(spec.name for spec in friends) or "none"
            raise UsageError(f"--without {name}: it isn't among the friends ({there}).")
        friends = [spec for spec in friends if spec.name != name]
    for text in added:
        spec = parse_friend(text)
        places = [index for index, other in enumerate(friends) if other.name == spec.name]
        if places:
            old = friends[places[0]]
            friends[places[0]] = FriendSpec(old.name, {**old.arguments, **spec.arguments}, old.kind)
        else:
            friends.append(spec)
    return validated({**as_values(experiment), "friends": tuple(as_values(spec) for spec in friends)})


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted names of settings that differ, with the old and the new value."""
    found: dict[str, tuple[Any, Any]] = {}
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            found |= differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if list(old) != list(new):  # JSON gives tuples back as lists
            found[prefix] = (old, new)
    elif old != new:
        found[prefix] = (old, new)
    return found
