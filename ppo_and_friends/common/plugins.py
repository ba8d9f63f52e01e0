"""Finds parts that users or other packages provide: by entry point, or as ``module:attribute``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from ppo_and_friends.common.objects import described, resolve_object
from ppo_and_friends.errors import UsageError, nearest

Kind = Literal["launcher", "friend", "model", "reporter"]


def installed(kind: Kind) -> list[EntryPoint]:
    """The entry points of all installed packages in the group ``ppo_and_friends.<kind>s``."""
    return list(entry_points(group=f"ppo_and_friends.{kind}s"))


def find_part(name: str, kind: Kind, built_in: Mapping[str, str] | None = None) -> Any:
    """Find a part by its name.

    Args:
        name: The name of a built-in or of an entry point, ``module:attribute``, or
            ``path/to/file.py:attribute``.
        kind: The kind of part.
        built_in: Maps the names of built-in parts to their modules.

    Raises:
        UsageError: It doesn't exist, or can't be imported.
    """
    built_in = built_in or {}
    if name in built_in:
        return getattr(import_module(built_in[name]), name)
    points = installed(kind)
    for point in points:
        if point.name == name:
            try:
                return point.load()
            except Exception as error:  # third-party code can raise anything
                raise UsageError(
                    f"{kind} {name!r} ({point.value}) can't be imported: {described(error)}."
                ) from error
    if ":" in name:
        return resolve_object(name, kind)
    near = ", ".join(nearest(name, [*built_in, *(point.name for point in points)]))
    meant = f" Did you mean {near}?" if near else ""
    raise UsageError(
        f"There is no {kind} {name!r}.{meant} Your own can be given as module:Class or path/to/file.py:Class."
    )
