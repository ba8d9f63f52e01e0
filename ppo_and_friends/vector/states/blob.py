"""A state as bytes: the text of its structure (JSON), then the numbers of its arrays."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.vector.states.errors import BadStateError

Array = NDArray[Any]

KINDS = frozenset("?biufcSU")
"""Of arrays that are numbers or text by themselves, as NumPy's ``dtype.kind`` names them."""

LENGTH = 8
"""Bytes of the number that says how long the text is."""


class Writer:
    """Collects the bytes of arrays."""

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> list[int]:
        """Add bytes; returns where they are, and how many."""
        place = [self._size, len(data)]
        self._parts.append(data)
        self._size += len(data)
        return place

    def add_array(self, array: Array) -> list[Any]:
        """Add an array; returns what describes it."""
        shape = list(array.shape)
        return [array.dtype.str, shape, self.add(np.ascontiguousarray(array).tobytes())[0]]

    def blob(self, structure: Any) -> bytes:
        """The state whose structure this is."""
        text = json.dumps(structure, separators=(",", ":")).encode()
        return b"".join((len(text).to_bytes(LENGTH, "little"), text, *self._parts))


class Reader:
    """Finds structure and arrays in a state's bytes; nothing in them is trusted."""

    def __init__(self, blob: bytes) -> None:
        """Take the bytes apart.

        Raises:
            BadStateError: They aren't a state's.
        """
        size = int.from_bytes(blob[:LENGTH], "little")
        if len(blob) < LENGTH + size:
            raise BadStateError("it ends too early")
        try:
            self.structure: Any = json.loads(blob[LENGTH : LENGTH + size])
        except (ValueError, RecursionError) as error:
            raise BadStateError(f"its structure is not JSON ({type(error).__name__})") from None
        self._data = memoryview(blob)[LENGTH + size :]

    def bytes(self, place: Any) -> bytes:
        """What `Writer.add` was given."""
        start, size = _count(place, 0), _count(place, 1)
        if start + size > len(self._data):
            raise BadStateError("it ends too early")
        return bytes(self._data[start : start + size])

    def array(self, described: Any) -> Array:
        """A copy of what `Writer.add_array` was given."""
        try:
            text, shape, start = described
            dtype = np.dtype(text) if isinstance(text, str) else None
            shape = tuple(_count(shape, axis) for axis in range(len(shape)))
        except (TypeError, ValueError):
            raise BadStateError("an array's description is wrong") from None
        if dtype is None or dtype.kind not in KINDS:
            raise BadStateError(f"there are no arrays of {text!r:.40}")
        size = math.prod((dtype.itemsize, *shape))
        data = self.bytes([start, size])
        try:
            if not size:
                return np.zeros(shape, dtype)
            return np.frombuffer(data, dtype).reshape(shape).copy()
        except (ValueError, OverflowError):
            raise BadStateError(f"no array has the shape {shape}") from None


def _count(values: Any, index: int) -> int:
    """A whole number from 0 in a list."""
    if not isinstance(values, list) or index >= len(values):
        raise BadStateError("a list of numbers is missing")
    value = values[index]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadStateError(f"{value!r:.40} is not a whole number from 0")
    return value
