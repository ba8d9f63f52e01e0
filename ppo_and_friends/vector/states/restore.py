"""From a state to an environment that was made alike: what `capture` saved is set again, in place.

No code is executed for it but an environment's own ``set_state``, and nothing is imported: a state is data,
and objects are of classes that the environment uses already.
"""

from __future__ import annotations

import enum
import math
import random
import sys
from collections import OrderedDict, defaultdict, deque
from functools import partial
from types import MethodType
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.vector.states import simulators
from ppo_and_friends.vector.states.blob import Reader
from ppo_and_friends.vector.states.errors import BadStateError, NoStateError
from ppo_and_friends.vector.states.kinds import (
    BIT_GENERATORS,
    CONSTANT,
    attributes,
    class_name,
    constant_text,
    is_plain,
    is_skipped,
    says_its_state,
)

Saved = Any
PLAIN = (type(None), bool, int, float, str)


def restored(blob: bytes, existing: Any, name: str = "env") -> Any:
    """Set a state.

    Args:
        blob: What `capture.captured` made.
        existing: What was made alike, and is changed; None: there is nothing.
        name: What it is called in messages.

    Returns:
        ``existing``, or what takes its place.

    Raises:
        BadStateError: The bytes aren't a state's.
        NoStateError: It doesn't fit.
    """
    reader = Reader(blob)
    walk = _Restore(reader, name)
    try:
        return walk.node(reader.structure, existing)
    except RecursionError:
        raise BadStateError("it is nested too deeply") from None
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadStateError):
            raise
        raise BadStateError(f"{walk.place}: {type(error).__name__}") from error


class _Restore:
    def __init__(self, reader: Reader, name: str) -> None:
        self._reader, self._path = reader, [name]
        self._seen: list[Any] = []
        self._used: set[int] = set()
        self._classes: dict[str, type[Any]] = {}
        self._packages: set[str] = set()

    @property
    def place(self) -> str:
        """Where it is."""
        return "".join(self._path)

    def node(self, saved: Saved, existing: Any) -> Any:
        """The value that is described, made of what is there if it is of the same kind."""
        if isinstance(saved, PLAIN):
            return saved
        if not isinstance(saved, list) or not saved or not isinstance(saved[0], str):
            raise BadStateError(f"{self.place}: {saved!r:.40} describes nothing")
        self._learn(type(existing))
        kind, *rest = saved
        immediate = getattr(self, f"_immediate_{kind}", None)
        if immediate is not None:
            return immediate(existing, *rest)
        owned = getattr(self, f"_owned_{kind}", None)
        if owned is None:
            raise BadStateError(f"{self.place}: there is no kind {kind!r:.40}")
        index = len(self._seen)
        self._seen.append(None)
        if id(existing) in self._used:
            existing = None  # what two places have in common now they hadn't then
        else:
            self._used.add(id(existing))
        value = owned(existing, index, *rest)
        self._seen[index] = value
        return value

    # What nobody shares.

    def _immediate_seen(self, existing: Any, index: int) -> Any:
        return self._seen[index]

    def _immediate_tuple(self, existing: Any, items: Saved) -> Any:
        return tuple(self._items(items, existing if type(existing) is tuple else ()))

    def _immediate_frozenset(self, existing: Any, items: Saved) -> Any:
        return frozenset(self._items(items, ()))

    def _immediate_bytes(self, existing: Any, place: Saved) -> Any:
        return self._reader.bytes(place)

    def _immediate_complex(self, existing: Any, parts: Saved) -> Any:
        return complex(*parts)

    def _immediate_range(self, existing: Any, parts: Saved) -> Any:
        return range(*parts)

    def _immediate_slice(self, existing: Any, parts: Saved) -> Any:
        return slice(*parts)

    def _immediate_number(self, existing: Any, described: Saved) -> Any:
        return self._reader.array(described)[()]

    def _immediate_enum(self, existing: Any, kind: str, name: str) -> Any:
        found = self._class(kind)
        if not issubclass(found, enum.Enum) or name not in found.__members__:
            raise NoStateError(f"{self.place} was {kind}.{name}, which isn't there")
        return found[name]

    def _immediate_constant(self, existing: Any, text: str) -> Any:
        own = constant_text(existing) if isinstance(existing, CONSTANT) else type(existing).__name__
        if own != text:
            raise NoStateError(f"{self.place} was {text}, and is {own}")
        return existing

    def _immediate_method(self, existing: Any, name: str, owner: Saved) -> Any:
        if type(existing) is not MethodType or existing.__func__.__qualname__ != name:
            raise NoStateError(f"{self.place} was the method {name}, and is {constant_text(existing)}")
        found = self._at(".__self__", owner, existing.__self__)
        return existing if found is existing.__self__ else MethodType(existing.__func__, found)

    def _immediate_partial(self, existing: Any, text: str, arguments: Saved) -> Any:
        if type(existing) is not partial or constant_text(existing) != text:
            raise NoStateError(f"{self.place} was {text}, and is {constant_text(existing)}")
        positional, named = self.node(arguments, [existing.args, existing.keywords])
        return partial(existing.func, *positional, **named)

    # What several places may share.

    def _owned_function(self, existing: Any, index: int, text: str, cells: Saved) -> Any:
        own = getattr(existing, "__closure__", None) or ()
        if constant_text(existing) != text or len(own) != len(cells):
            raise NoStateError(f"{self.place} was {text}, and is {constant_text(existing)}")
        self._seen[index] = existing
        for name, cell, saved in zip(existing.__code__.co_freevars, own, cells, strict=True):
            cell.cell_contents = self._at(f".{name}", saved, cell.cell_contents)
        return existing

    def _owned_array(self, existing: Any, index: int, described: Saved) -> Any:
        array = self._reader.array(described)
        alike = type(existing) is np.ndarray and (existing.shape, existing.dtype) == (
            array.shape,
            array.dtype,
        )
        if not alike or (not existing.flags.writeable and not _equal(existing, array)):
            return array
        if existing.flags.writeable:
            existing[...] = array  # others may see its memory
        return existing

    def _owned_objects(self, existing: Any, index: int, shape: Saved, items: Saved) -> Any:
        same = type(existing) is np.ndarray and existing.dtype == object and list(existing.shape) == shape
        values = self._items(items, list(existing.flat) if same else ())
        if math.prod(shape) != len(values):
            raise BadStateError(f"{self.place}: {len(values)} objects don't fill {shape}")
        array = existing if same and existing.flags.writeable else np.empty(shape, object)
        for place, value in enumerate(values):
            array.flat[place] = value
        return array

    def _owned_list(self, existing: Any, index: int, items: Saved) -> Any:
        before, value = self._before(existing, list), existing if type(existing) is list else []
        self._seen[index] = value
        value[:] = self._items(items, before)
        return value

    def _owned_set(self, existing: Any, index: int, items: Saved) -> Any:
        value = existing if type(existing) is set else set()
        self._seen[index] = value
        found = self._items(items, ())
        value.clear()
        value.update(found)
        return value

    def _owned_deque(self, existing: Any, index: int, longest: int | None, items: Saved) -> Any:
        before = self._before(existing, deque)
        same = type(existing) is deque and existing.maxlen == longest
        value: deque[Any] = existing if same else deque(maxlen=longest)
        self._seen[index] = value
        found = self._items(items, before)
        value.clear()
        value.extend(found)
        return value

    def _owned_bytearray(self, existing: Any, index: int, place: Saved) -> Any:
        value = existing if type(existing) is bytearray else bytearray()
        value[:] = self._reader.bytes(place)
        return value

    def _owned_dict(self, existing: Any, index: int, pairs: Saved) -> Any:
        value = existing if type(existing) in (dict, OrderedDict, defaultdict) else {}
        self._seen[index] = value
        before = dict(value)
        found = []
        for saved_key, saved in pairs:
            key = self.node(saved_key, None)
            found.append((key, self._at(f"[{key!r:.40}]", saved, before.get(key))))
        value.clear()
        value.update(found)
        return value

    def _owned_generator(self, existing: Any, index: int, name: str, saved: Saved) -> Any:
        kind = BIT_GENERATORS[name]
        if type(existing) is not np.random.Generator or type(existing.bit_generator) is not kind:
            existing = np.random.Generator(kind(0))
        existing.bit_generator.state = self.node(saved, None)
        return existing

    def _owned_RandomState(self, existing: Any, index: int, saved: Saved) -> Any:  # noqa: N802
        existing = existing if type(existing) is np.random.RandomState else np.random.RandomState(0)
        existing.set_state(self.node(saved, None))
        return existing

    def _owned_Random(self, existing: Any, index: int, saved: Saved) -> Any:  # noqa: N802
        existing = existing if type(existing) is random.Random else random.Random(0)
        existing.setstate(self.node(saved, None))
        return existing

    def _owned_space(self, existing: Any, index: int, own: Saved, inner: Saved) -> Any:
        if not isinstance(existing, spaces.Space):
            raise NoStateError(f"{self.place} was a space")
        existing._np_random = self.node(own, getattr(existing, "_np_random", None))
        parts: Any = getattr(existing, "spaces", ())
        for saved, part in zip(
            inner, list(parts.values() if isinstance(parts, dict) else parts), strict=True
        ):
            self.node(saved, part)
        return existing

    def _owned_namedtuple(self, existing: Any, index: int, kind: str, items: Saved) -> Any:
        found: Any = self._class(kind)
        if not issubclass(found, tuple):
            raise BadStateError(f"{self.place}: {kind} is no tuple")
        return found._make(self._items(items, existing if type(existing) is found else ()))

    def _owned_simulator(self, existing: Any, index: int, name: str, saved: Saved) -> Any:
        state = self.node(saved, None)
        try:
            simulators.restore(name, state, existing)
        except NoStateError as error:
            raise NoStateError(f"{self.place} {error}") from None
        return existing

    def _owned_own(self, existing: Any, index: int, kind: str, saved: Saved, more: Saved) -> Any:
        if class_name(type(existing)) != kind or not says_its_state(existing):
            raise NoStateError(f"{self.place} was a {kind}, and is a {class_name(type(existing))}")
        self._seen[index] = existing
        for name, each in more:
            self._set(existing, name, each)
        existing.set_state(self.node(saved, None))
        return existing

    def _owned_object(self, existing: Any, index: int, kind: str, saved: Saved) -> Any:
        if class_name(type(existing)) != kind:
            found = self._class(kind)
            if not is_plain(found):
                raise NoStateError(f"{self.place} was a {kind}, which can't be made anew")
            existing = object.__new__(found)
        self._seen[index] = existing
        names = {name for name, _ in saved}
        for name, _ in list(attributes(existing)):
            if name not in names and not is_skipped(existing, name):
                object.__delattr__(existing, name)
        for name, each in saved:
            self._set(existing, name, each)
        own = getattr(existing, "__dict__", {})
        for name, _ in saved:  # in their order
            if name in own:
                own[name] = own.pop(name)
        return existing

    def _set(self, owner: Any, name: str, saved: Saved) -> None:
        own = getattr(owner, "__dict__", {})
        value = self._at(f".{name}", saved, own[name] if name in own else getattr(owner, name, None))
        if name in own or not hasattr(type(owner), name):
            own[name] = value
        else:  # a slot
            object.__setattr__(owner, name, value)

    def _items(self, saved: Saved, before: Any) -> list[Any]:
        before = list(before)
        return [
            self._at(f"[{index}]", each, before[index] if index < len(before) else None)
            for index, each in enumerate(saved)
        ]

    def _at(self, step: str, saved: Saved, existing: Any) -> Any:
        self._path.append(step)
        value = self.node(saved, existing)
        self._path.pop()
        return value

    def _before(self, existing: Any, kind: type[Any]) -> list[Any]:
        return list(existing) if type(existing) is kind else []

    def _learn(self, kind: type[Any]) -> None:
        """Remember a class that the environment uses, and its package."""
        name = class_name(kind)
        if name not in self._classes:
            self._classes[name] = kind
            if is_plain(kind) or issubclass(kind, enum.Enum) or hasattr(kind, "_fields"):
                self._packages.add(name.partition(".")[0])

    def _class(self, name: str) -> type[Any]:
        """A class that the environment uses, or that was imported with one of these."""
        if name in self._classes:
            return self._classes[name]
        module, _, last = name.rpartition(".")
        found = (
            getattr(sys.modules.get(module), last, None) if name.partition(".")[0] in self._packages else None
        )
        if not isinstance(found, type) or class_name(found) != name:
            raise NoStateError(f"{self.place} was a {name}, which a new environment doesn't use")
        return found


def _equal(one: Any, other: Any) -> bool:
    return bool(one.tobytes() == other.tobytes())
