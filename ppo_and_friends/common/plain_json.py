"""JSON from files that anyone may have written: bounded in size and depth, and nothing but an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20
"""Most bytes of a file; what is saved beside tensors has thousands."""

DEEPEST = 100
"""Most levels of nesting. Python's own limit is 1,000 calls, of which readers may need several a level."""


def parsed(data: bytes) -> dict[str, Any]:
    """The object that JSON text contains.

    Raises:
        ValueError: It isn't JSON, isn't an object, or is nested too deeply; the message says which.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds {_kind(value)}, not an object")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [each for outer in level if isinstance(outer, dict | list) for each in _inside(outer)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: It can't be read, or isn't a regular file.
        ValueError: As in `parsed`; or the file is too large.
    """
    return parsed(read_regular(path, LARGEST))


def read_regular(path: Path, largest: int | None = None) -> bytes:
    """A file's content, but not that of a pipe or a device, from which reading might never end.

    Raises:
        OSError: It can't be read, or isn't a regular file.
        ValueError: It has more than ``largest`` bytes.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise OSError(f"{path.name} is not a regular file")
    if largest is not None and size > largest:
        raise ValueError(f"it has {size:,} bytes, more than {largest:,}")
    return path.read_bytes()


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
