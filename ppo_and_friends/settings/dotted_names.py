"""Changes settings by dotted name, typed and checked: for ``--set`` and ``Experiment.with_changes``.

This module doesn't depend on the experiment's classes; it inspects the dataclasses it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.settings.other_names import note_on, todays_name

Settings = TypeVar("Settings")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def as_values(settings: Any) -> Any:
    """Nested dataclasses as nested dicts, one level of names at a time; other values unchanged."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {each.name: as_values(getattr(settings, each.name)) for each in fields(settings)}
    if isinstance(settings, tuple):
        return tuple(as_values(each) for each in settings)
    if isinstance(settings, dict):  # a copy, since the values are changed in place
        return {key: as_values(each) if isinstance(each, dict) else each for key, each in settings.items()}
    return settings


def from_values(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """A dataclass of settings from nested values.

    Raises:
        UsageError: A value is of the wrong type or out of range; names the setting.
    """
    key: Any = kind
    try:
        made: Settings = _adapter(key).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        why = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}={problem['input']!r}: {why}.") from error
    return made


def setting_names(settings: Any, prefix: str = "") -> list[str]:
    """All dotted names that can be changed, except friends'."""
    names: list[str] = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        nested = is_dataclass(value) and type(value).__name__.endswith("Settings")
        names += setting_names(value, f"{prefix}{each.name}.") if nested else [prefix + each.name]
    return [name for name in names if name not in ("friends", "name", "environment.factory")]


def changed(settings: Settings, changes: Iterable[tuple[str, Any]], said: str = "") -> Settings:
    """A copy of the settings with some values changed.

    Args:
        settings: An experiment.
        changes: Dotted names and values: ``("ppo.gamma", 0.995)``, or, for a friend's argument,
            ``("friends.KLEarlyStop.target", 0.02)``. Later ones win.
        said: What the user wrote before a name (``--set ``), for error messages.

    Raises:
        UsageError: An unknown name (the nearest are listed) or a value that doesn't fit.
    """
    values = as_values(settings)
    known = setting_names(settings)
    present = {spec["name"]: spec for spec in values["friends"]}
    for name, value in changes:
        parts = name.split(".")
        if parts[0] == "friends" and len(parts) == 3:
            if parts[1] not in present:
                there = ", ".join(present) or "none"
                raise UsageError(f"{said}{name}: no friend {parts[1]!r} here (there are: {there}).")
            present[parts[1]]["arguments"][parts[2]] = value
            continue
        if name not in known and not name.startswith("environment.arguments."):
            raise UsageError(f"{said}{name}: there is no such setting. {_meant(name, known)}")
        target = values
        for part in parts[:-1]:
            target = target.get(part)
            if not isinstance(target, dict):
                raise UsageError(f"{said}{name}: {part!r} holds no settings of its own here.")
        if isinstance(target.get(parts[-1]), tuple | list) and isinstance(value, int | float | str):
            value = [value]
        target[parts[-1]] = value
    return from_values(type(settings), values)


def _meant(name: str, known: Sequence[str]) -> str:
    """What somebody may have meant by an unknown name: a setting, or a friend, by its name here."""
    today = todays_name(name)
    if today is None:
        same_end = [each for each in known if each.rpartition(".")[2] == name]
        return f"Did you mean {', '.join(same_end or nearest(name, known))}?"
    if today.startswith("friends."):
        _, friend, *argument = today.split(".")
        return f"Here that is a friend: --with {friend}{''.join(f':{each}=...' for each in argument)}"
    return f"Here it is called {today}{note_on(name)}."
