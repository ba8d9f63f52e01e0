"""From an environment to its state: a walk over all that it holds.

What is saved are numbers, text, arrays, containers of these, generators of random numbers, what simulators
say of themselves (`simulators`), and Python objects, attribute by attribute. What an object shares with
another is saved once. Anything else is refused by name, since nobody knows what is hidden in it.
"""

from __future__ import annotations

import enum
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.vector.states import simulators
from ppo_and_friends.vector.states.blob import KINDS, Writer
from ppo_and_friends.vector.states.errors import NoStateError
from ppo_and_friends.vector.states.kinds import (
    BIT_GENERATORS,
    CONSTANT,
    HIDDEN,
    RENDERERS,
    attributes,
    class_name,
    constant_text,
    is_plain,
    is_skipped,
    says_its_state,
)

DEEPEST = 80
"""Most levels of objects in objects."""


def captured(value: Any, name: str = "env") -> bytes:
    """A value's state as bytes, which `restore.restored` sets again.

    Args:
        value: An environment, or anything else.
        name: What it is called in messages.

    Raises:
        NoStateError: Something in it can't be saved; names it.
    """
    walk = _Capture(name)
    return walk.writer.blob(walk.node(value))


class _Capture:
    def __init__(self, name: str) -> None:
        self.writer = Writer()
        self._path = [name]
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is used twice

    def node(self, value: Any) -> Any:
        """What describes a value: itself, if JSON has it, or a list that begins with the kind."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is tuple:
            return ["tuple", self._items(value)]
        if kind is frozenset:
            return ["frozenset", self._items(value)]
        if kind is bytes:
            return ["bytes", self.writer.add(value)]
        if kind in (complex, range, slice):
            return [kind.__name__, self._parts(value)]
        if isinstance(value, np.generic):
            return ["number", self.writer.add_array(self._array(np.asarray(value)))]
        if isinstance(value, enum.Enum):
            return ["enum", class_name(kind), value.name]
        if kind is FunctionType and value.__closure__:
            return self._of_function(value)
        if kind is MethodType and not isinstance(value.__self__, type):
            with self._inside(".__self__"):
                return ["method", value.__func__.__qualname__, self.node(value.__self__)]
        if kind is partial:
            return ["partial", constant_text(value), self.node([value.args, value.keywords])]
        if isinstance(value, CONSTANT) or kind.__name__ in RENDERERS:
            return ["constant", constant_text(value) if isinstance(value, CONSTANT) else kind.__name__]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return self._owned(value, kind)

    def _owned(self, value: Any, kind: type[Any]) -> Any:
        """What describes a value that others may share, at its first place."""
        if kind is np.ndarray:
            return self._of_array(value)
        if kind is list:
            return ["list", self._items(value)]
        if kind in (dict, OrderedDict, defaultdict):
            return ["dict", self._pairs(value)]
        if kind is set:
            return ["set", self._items(value)]
        if kind is deque:
            return ["deque", value.maxlen, self._items(value)]
        if kind is bytearray:
            return ["bytearray", self.writer.add(bytes(value))]
        if isinstance(value, np.random.Generator):
            return self._of_generator(value)
        if kind is np.random.RandomState:
            return ["RandomState", self.node(value.get_state(legacy=False))]
        if kind is random.Random:
            return ["Random", self.node(value.getstate())]
        if isinstance(value, spaces.Space):
            return self._of_space(value)
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return ["namedtuple", class_name(kind), self._items(value)]
        found = simulators.saved(value)
        if found is not None:
            return ["simulator", found[0], self.node(found[1])]
        if says_its_state(value):
            return self._of_its_own(value)
        if any(class_name(base).startswith(HIDDEN) for base in kind.__mro__):
            raise self._refusal(value, f"{class_name(kind)}, of Box2D")
        if is_plain(kind):
            return ["object", class_name(kind), self._attributes(value)]
        raise self._refusal(value)

    def _items(self, values: Any) -> list[Any]:
        found = []
        for index, each in enumerate(values):
            with self._inside(f"[{index}]"):
                found.append(self.node(each))
        return found

    def _pairs(self, values: dict[Any, Any]) -> list[Any]:
        found = []
        for key, each in values.items():
            with self._inside(f"[{key!r:.40}]"):
                found.append([self.node(key), self.node(each)])
        return found

    def _attributes(self, value: Any) -> list[Any]:
        found = []
        for name, each in attributes(value):
            if not is_skipped(value, name):
                within = name == "env" and isinstance(value, gymnasium.Wrapper)
                with self._inside("" if within else f".{name}"):
                    found.append([name, self.node(each)])
        return found

    def _of_array(self, array: Any) -> Any:
        if array.dtype.kind == "O":
            return ["objects", list(array.shape), self._items(array.flat)]
        return ["array", self.writer.add_array(self._array(array))]

    def _array(self, array: Any) -> Any:
        if array.dtype.kind not in KINDS or array.dtype.hasobject:
            raise self._refusal(array, f"of the type {array.dtype}")
        return array

    def _of_function(self, function: Any) -> Any:
        """What a function remembers of where it was made."""
        if id(function) in self._seen:
            return ["seen", self._seen[id(function)]]
        self._seen[id(function)] = len(self._seen)
        self._alive.append(function)
        found = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
            with self._inside(f".{name}"):
                found.append(self.node(cell.cell_contents))
        return ["function", constant_text(function), found]

    def _of_generator(self, generator: np.random.Generator) -> Any:
        name = type(generator.bit_generator).__name__
        if name not in BIT_GENERATORS:
            raise self._refusal(generator.bit_generator)
        return ["generator", name, self.node(generator.bit_generator.state)]

    def _of_space(self, space: spaces.Space[Any]) -> Any:
        """What it would sample; all else is a constant."""
        own = getattr(space, "_np_random", None)
        parts = getattr(space, "spaces", ())
        inner = list(parts.values()) if isinstance(parts, dict) else list(parts)
        return ["space", self.node(own), [self.node(each) for each in inner]]

    def _of_its_own(self, value: Any) -> Any:
        """What an object says of itself, with what is saved of each environment in any case."""
        kept = [(name, each) for name, each in attributes(value) if name in ("_np_random", "_np_random_seed")]
        if isinstance(value, gymnasium.Wrapper):
            kept.append(("env", value.env))
        more = []
        for name, each in kept:
            with self._inside(f".{name}"):
                more.append([name, self.node(each)])
        with self._inside(".get_state()"):
            return ["own", class_name(type(value)), self.node(value.get_state()), more]

    def _parts(self, value: Any) -> list[Any]:
        if isinstance(value, complex):
            return [value.real, value.imag]
        return [value.start, value.stop, value.step]

    @contextmanager
    def _inside(self, step: str) -> Iterator[None]:
        self._path.append(step)
        if len(self._path) > DEEPEST:
            raise NoStateError(f"{''.join(self._path)[:200]}... is nested too deeply")
        yield
        self._path.pop()

    def _refusal(self, value: Any, what: str = "") -> NoStateError:
        name = class_name(type(value)).removeprefix("builtins.")
        return NoStateError(f"{''.join(self._path)} ({what or name})")
