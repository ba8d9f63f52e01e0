"""Parts that other packages bring: by an entry point with a name, or by ``module:attribute``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from ppo_and_friends.common.objects import described, resolve_object
from ppo_and_friends.errors import UsageError, nearest

Kind = Literal["launcher", "friend", "model", "reporter"]


def installed(kind: Kind) -> list[EntryPoint]:
    """The entry points of the group ``ppo_and_friends.<kind>s``, of all installed packages."""
    return list(entry_points(group=f"ppo_and_friends.{kind}s"))


def find_part(name: str, kind: Kind, built_in: Mapping[str, str] | None = None) -> Any:
    """A part by its name.

    Args:
        name: A built-in's, an entry point's, ``module:attribute`` or ``path/to/file.py:attribute``.
        kind: What it is.
        built_in: Name to module of those that come with the project.

    Raises:
        UsageError: There is none of that name, or it can't be imported.
    """
    built_in = built_in or {}
    if name in built_in:
        return getattr(import_module(built_in[name]), name)
    points = installed(kind)
    for point in points:
        if point.name == name:
            try:
                return point.load()
            except Exception as error:  # another package's mistake
                raise UsageError(
                    f"{kind} {name!r} ({point.value}) can't be imported: {described(error)}."
                ) from error
    if ":" in name:
        return resolve_object(name, kind)
    near = ", ".join(nearest(name, [*built_in, *(point.name for point in points)]))
    meant = f" Did you mean {near}?" if near else ""
    raise UsageError(f"There is no {kind} {name!r}.{meant} Own ones are given as module:Class.")
