"""What kinds of objects environments consist of, as far as their state is concerned."""

from __future__ import annotations

import enum
import functools
import inspect
import logging
import re
import types
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

POINTER = 8
"""Bytes of a reference."""

HEAP_TYPE = 1 << 9
"""Flag of classes that aren't the interpreter's own, in ``type.__flags__``."""

BIT_GENERATORS: dict[str, type[Any]] = {
    each.__name__: each
    for each in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}

CONSTANT = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    np.dtype,
    np.ufunc,
    functools.partial,
    logging.Logger,
    re.Pattern,
    PurePath,
    EnvSpec,
)
"""Never saved: a new environment's own must be the same."""

NOT_STATE = frozenset({"spec", "_cached_spec", "metadata", "_metadata", "_ezpickle_args", "_ezpickle_kwargs"})
"""Attributes of environments that say what they are, and not how they are."""

HIDDEN = ("Box2D.",)
"""Beginnings of the names of classes whose state is elsewhere, though they look like Python's: Box2D's."""

RENDERERS = frozenset({"MujocoRenderer", "Surface", "Font", "Clock"})
"""Classes, by name, that draw and do nothing else: MuJoCo's, and pygame's."""


def class_name(kind: type[Any]) -> str:
    """A class's name with its module."""
    module = getattr(kind, "__module__", None)  # some classes written in C have none
    return f"{module}.{kind.__qualname__}" if isinstance(module, str) else kind.__qualname__


def constant_text(value: Any) -> str:
    """What identifies a constant."""
    if isinstance(value, EnvSpec):
        return "EnvSpec"
    if isinstance(value, functools.partial):
        return f"partial({constant_text(value.func)})"
    if isinstance(value, types.MethodType | types.FunctionType | types.BuiltinFunctionType | type):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    if isinstance(value, types.ModuleType | np.ufunc):
        return str(value.__name__)
    return repr(value)


def is_plain(kind: type[Any]) -> bool:
    """Whether all that an instance holds are its attributes, so that nothing is hidden in C."""
    size = object.__basicsize__
    for base in kind.__mro__:
        if base is object:
            continue
        if not base.__flags__ & HEAP_TYPE:
            return False
        size += POINTER * len(_own_slots(base))
    size += POINTER * ((kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0))
    return kind.__basicsize__ == size and kind.__itemsize__ == 0 and not issubclass(kind, enum.Enum)


def _own_slots(kind: type[Any]) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """An instance's attributes by name: those in its dictionary, then those in slots."""
    yield from getattr(value, "__dict__", {}).items()
    for base in type(value).__mro__:
        for name in _own_slots(base):
            full = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if hasattr(value, full):
                yield full, getattr(value, full)


def is_skipped(owner: Any, name: str) -> bool:
    """Whether an attribute is no part of a state."""
    return isinstance(owner, gymnasium.Env) and name in NOT_STATE


def says_its_state(value: Any) -> bool:
    """Whether an object offers ``get_state()`` and ``set_state(state)`` itself."""
    get, set_ = (getattr(type(value), name, None) for name in ("get_state", "set_state"))
    return callable(get) and callable(set_) and _takes(get, 1) and _takes(set_, 2)


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True
