"""Nested spaces: the parts of Dict and Tuple spaces, and of elements and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

Path = tuple[str | int, ...]
"""Keys and indices that lead to a part, from the outermost Dict or Tuple; empty for the whole."""


def parts(space: spaces.Space[Any], path: Path = ()) -> Iterator[tuple[Path, spaces.Space[Any]]]:
    """The parts that aren't a Dict or Tuple themselves, in their order, with what leads to them."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from parts(part, (*path, name))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from parts(part, (*path, index))
    else:
        yield path, space


def named(what: str, path: Path) -> str:
    """A part's name, such as ``observation["position"][0]``."""
    return what + "".join(f'["{step}"]' if isinstance(step, str) else f"[{step}]" for step in path)


def pick(value: Any, path: Path) -> Any:
    """The part of an element or of a batch that a path leads to."""
    for step in path:
        value = value[step]
    return value


def built(space: spaces.Space[Any], values: Sequence[Any]) -> Any:
    """What `parts` took apart: dicts and tuples as in the space, with one value for each part."""
    rest = iter(values)

    def build(of: spaces.Space[Any]) -> Any:
        if isinstance(of, spaces.Dict):
            return {name: build(part) for name, part in of.spaces.items()}
        if isinstance(of, spaces.Tuple):
            return tuple(build(part) for part in of.spaces)
        return next(rest)

    return build(space)


def row_of(batch: Any, space: spaces.Space[Any], row: int) -> Any:
    """One element of a batch: NumPy integers for Discrete, arrays for the rest.

    Args:
        batch: Dicts and tuples as in the space, of arrays [B, *part shape].
        space: Of one element.
        row: Its index in the batch.
    """
    if isinstance(space, spaces.Dict):
        return {name: row_of(batch[name], part, row) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(row_of(batch[index], part, row) for index, part in enumerate(space.spaces))
    # A Box action must be an array even if it is a scalar; a Discrete action must not be one.
    return batch[row] if isinstance(space, spaces.Discrete) else batch[row, ...]


def copied(batch: Any, space: spaces.Space[Any]) -> Any:
    """A copy of a batch in the dtypes of its space."""
    if isinstance(space, spaces.Dict):
        return {name: copied(batch[name], part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(copied(batch[index], part) for index, part in enumerate(space.spaces))
    return np.array(batch, dtype=space.dtype)


def flattened(batch: Any, space: spaces.Space[Any]) -> np.ndarray[Any, Any]:
    """A batch as numbers [B, n], its parts one after the other."""
    columns = [np.asarray(pick(batch, path)) for path, _ in parts(space)]
    return np.concatenate([each.reshape(len(each), -1) for each in columns], axis=1)
