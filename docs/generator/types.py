"""Types and defaults of settings and of friends' arguments, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator

from ppo_and_friends.settings.schedules import Schedule

BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
PLAIN = {types.NoneType: "none", str: "text", Any: "anything", Schedule: "[schedule](#schedules)"}


def type_in_words(annotation: Any) -> str:
    """A type with its range, such as ``int > 0``, ``list of int > 0`` or ``float or none``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([type_in_words(inner[0]), *_range(inner[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_in_words, inner)))
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin in (tuple, list):
        return f"list of {type_in_words(inner[0])}"
    if origin is dict:
        return "values by name"
    return PLAIN.get(annotation) or str(annotation.__name__)


def value_in_words(value: Any) -> str:
    """A default, as ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, tuple | list):
        return f"`[{','.join(map(str, value))}]`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "empty" if value == {} else f"`{value}`"


def _range(metadata: tuple[Any, ...]) -> Iterator[str]:
    """The bounds that are checked, together."""
    constraints = [each for one in metadata for each in (one, *getattr(one, "metadata", ()))]
    found = [
        f"{sign} {'2^63' if bound == 2**63 else f'{bound:g}'}"
        for name, sign in BOUNDS.items()
        for each in constraints
        if isinstance(bound := getattr(each, name, None), int | float)
    ]
    if any(isinstance(each, AfterValidator) for each in metadata):
        found.append("≥ 0")  # the schedules that mustn't be negative
    if found:
        yield ", ".join(found)
