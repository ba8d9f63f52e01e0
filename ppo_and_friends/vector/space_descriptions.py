"""Gymnasium spaces as JSON values, so that a saved policy includes its observation and action spaces."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.vector.spaces import LeftOut


def describe(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space as nested dicts of plain values; equal spaces have equal descriptions.

    Of kinds that can't be encoded, and that the policy therefore doesn't see, only the name is kept.
    """
    kind = type(space).__name__
    if isinstance(space, spaces.Box):
        bounds = {"low": _compact(space.low), "high": _compact(space.high)}
        return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Dict):
        # Pairs rather than a dict, because the order of the parts is the order of flattening.
        return {"kind": "Dict", "spaces": [[str(key), describe(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
    return {"kind": "LeftOut", "of": space.kind if isinstance(space, LeftOut) else kind}


def sizes(described: Any) -> Any:
    """What must agree of a described space: everything but bounds, which may be wider elsewhere."""
    if isinstance(described, Mapping):
        return {k: sizes(v) for k, v in described.items() if k not in ("low", "high", "dtype")}
    if isinstance(described, list | tuple):
        return [sizes(each) for each in described]
    return described


def restore(description: dict[str, Any]) -> spaces.Space[Any]:
    """Recreate a space from the description that ``describe`` returned."""
    kind = description["kind"]
    if kind == "Box":
        dtype = np.dtype(description["dtype"])
        shape = tuple(description["shape"])
        low, high = (
            np.broadcast_to(np.array(description[bound], dtype=dtype), shape) for bound in ("low", "high")
        )
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    if kind == "MultiDiscrete":
        nvec = np.array(description["nvec"], dtype=np.int64)
        return spaces.MultiDiscrete(nvec, start=np.array(description["start"], dtype=np.int64))
    if kind == "MultiBinary":
        shape = description["shape"]
        # For Gymnasium, MultiBinary(3) and MultiBinary((3,)) are different spaces.
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else tuple(shape))
    if kind == "Dict":
        # An OrderedDict, because Gymnasium sorts the keys of a plain dict.
        return spaces.Dict(OrderedDict((key, restore(part)) for key, part in description["spaces"]))
    if kind == "LeftOut":
        return LeftOut(description["of"])
    return spaces.Tuple([restore(part) for part in description["spaces"]])


def _compact(bound: np.ndarray[Any, Any]) -> Any:
    """Return a bound as JSON: one number if it is the same everywhere, nested lists otherwise."""
    flat = bound.reshape(-1)
    if flat.size and bool(np.all(flat == flat[0])):
        return _plain(flat[0].item())
    return _nested(bound.tolist())


def _nested(value: Any) -> Any:
    return [_nested(each) for each in value] if isinstance(value, list) else _plain(value)


def _plain(value: float) -> Any:
    # JSON has no infinities; NumPy parses these strings.
    return str(value) if value in (float("inf"), float("-inf")) else value
