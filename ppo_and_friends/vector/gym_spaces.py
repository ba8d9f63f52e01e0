"""Spaces of the package ``gym`` (Gymnasium's predecessor) as Gymnasium's, without importing it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import UsageError


def as_gymnasium(space: Any, what: str) -> spaces.Space[Any]:
    """Gymnasium's space with the same elements as a space of ``gym``.

    Args:
        space: Judged by the name of its class and its attributes.
        what: For the error message, such as ``MyEnv: action_space``.

    Raises:
        UsageError: It is of another kind.
    """
    if isinstance(space, spaces.Space):
        return space
    kind = next((each.__name__ for each in type(space).__mro__ if each.__name__ in KINDS), "")
    try:
        return _converted(space, kind, what)
    except (AttributeError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"{what} is a {type(space).__module__}.{type(space).__name__}, which can't be taken for one of "
            f"Gymnasium's {', '.join(KINDS)}: use gymnasium.spaces."
        ) from error


KINDS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")


def _converted(space: Any, kind: str, what: str) -> spaces.Space[Any]:
    match kind:
        case "Box":
            dtype = np.dtype(space.dtype)
            low, high = np.asarray(space.low, dtype), np.asarray(space.high, dtype)
            return spaces.Box(low, high, tuple(space.shape), dtype.type)
        case "Discrete":
            return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.asarray(space.nvec, np.int64))
        case "MultiBinary":
            return spaces.MultiBinary(space.n if np.ndim(space.n) == 0 else tuple(space.n))
        case "Dict":
            parts = ((key, as_gymnasium(part, what)) for key, part in space.spaces.items())
            return spaces.Dict(OrderedDict(parts))
        case "Tuple":
            return spaces.Tuple([as_gymnasium(part, what) for part in space.spaces])
    raise TypeError(kind)
