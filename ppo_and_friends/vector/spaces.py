"""Supported spaces, the parts of an observation, and the space of encoded observations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import UsageError

SMALLEST_IMAGE = 36
"""Smallest height and width, in pixels, for which the Nature CNN's three convolutions have an output."""

SUPPORTED_OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple of those"
SUPPORTED_ACTIONS = "Box, Discrete, MultiDiscrete and MultiBinary"


@dataclass(frozen=True)
class Leaf:
    """A part of an observation that isn't a Dict or Tuple itself."""

    key: str
    """Name, such as ``observation["position"]``."""

    path: tuple[str | int, ...]
    """Keys and indices that lead to the part, from the outermost Dict or Tuple."""

    space: spaces.Space[Any]
    """Its space: Box, Discrete, MultiDiscrete or MultiBinary."""

    start: int
    """Its first column in the flat vector."""

    size: int
    """Number of columns."""


class EncodedBox(spaces.Box):
    """The space of encoded vectors, with the parts from which they were concatenated."""

    parts: tuple[Leaf, ...] = ()
    """The parts, in the order of their columns."""


def declared_space(envs: Any) -> spaces.Space[Any]:
    """Return the observation space of one environment as it declares it, before encoding.

    Args:
        envs: A ``VectorEnv``; if it doesn't encode observations, its ``observation_space`` is returned.
    """
    space: spaces.Space[Any] = getattr(envs, "raw_observation_space", envs.observation_space)
    return space


def leaves(space: spaces.Space[Any]) -> list[Leaf]:
    """Return the parts of a supported space, in the order in which they are flattened."""
    found: list[Leaf] = []
    start = 0
    for key, path, part in _walk(space, "observation", ()):
        size = _flat_size(part)
        found.append(Leaf(key, path, part, start, size))
        start += size
    return found


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Check that observations from a space can be encoded.

    Raises:
        UsageError: They can't; names the part that isn't supported.
    """
    empty = True
    for key, _, part in _walk(space, "observation", ()):
        _check_part(part, key, SUPPORTED_OBSERVATIONS)
        empty = False
    if empty:
        raise UsageError(f"observation space {space} is empty; a policy needs at least one observation.")


def check_action_space(space: spaces.Space[Any]) -> None:
    """Check that an action space is supported.

    Raises:
        UsageError: It isn't; names the space and the supported ones.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise UsageError(f"action space {space} is not supported. Supported: {SUPPORTED_ACTIONS}.")
    _check_part(space, "action", SUPPORTED_ACTIONS)


def encoded_space(space: spaces.Space[Any]) -> spaces.Box:
    """Return the space of one encoded observation.

    Returns:
        For images, a uint8 Box ``[height, width, channels]`` or ``[channels, height, width]``, as
        declared; ``[height, width]`` becomes ``[1, height, width]``, and a stack
        ``[n, height, width, channels]`` becomes ``[n * channels, height, width]``. For bytes in 0..255
        (such as RAM), a flat uint8 vector. For everything else, an unbounded flat vector of float32, or
        float64 if any part is a float64 Box.

    Raises:
        UsageError: The space isn't supported.
    """
    check_observation_space(space)
    if is_image(space):
        shape = _image_shape(space.shape or ())
        return spaces.Box(0, 255, shape, np.uint8)
    parts = leaves(space)
    size = sum(part.size for part in parts)
    if _is_bytes(space):
        box = EncodedBox(0, 255, (size,), np.uint8)
    else:
        wide = any(isinstance(part.space, spaces.Box) and part.space.dtype == np.float64 for part in parts)
        box = EncodedBox(-np.inf, np.inf, (size,), np.float64 if wide else np.float32)
    box.parts = tuple(parts)
    return box


def _walk(
    space: spaces.Space[Any], key: str, path: tuple[str | int, ...]
) -> Iterator[tuple[str, tuple[str | int, ...], spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _walk(part, f'{key}["{name}"]', (*path, name))
    elif isinstance(space, spaces.Tuple):
        for i, part in enumerate(space.spaces):
            yield from _walk(part, f"{key}[{i}]", (*path, i))
    else:
        yield key, path, space


def _check_part(space: spaces.Space[Any], key: str, supported: str) -> None:
    if isinstance(space, spaces.Box):
        if space.dtype.kind not in "fiub":
            raise UsageError(f"{key} space {space} has dtype {space.dtype}; only real numbers are supported.")
        if 0 in space.shape:
            raise UsageError(f"{key} space {space} has no elements.")
    elif not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UsageError(f"{key} space {space} is not supported. Supported: {supported}.")
    elif _flat_size(space) == 0:
        raise UsageError(f"{key} space {space} has no elements.")


def _flat_size(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape or (), dtype=np.int64))


def _is_bytes(space: spaces.Space[Any]) -> bool:
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and space.shape != ()
        and len(space.shape) <= 2
        and bool((space.low == 0).all() and (space.high == 255).all())
    )


def is_image(space: spaces.Space[Any]) -> bool:
    """Return whether observations are kept as images: uint8, and large enough for the Nature CNN."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3, 4):
        return False
    return min(_image_shape(space.shape)[-2:]) >= SMALLEST_IMAGE or (
        len(space.shape) == 3 and min(space.shape[:2]) >= SMALLEST_IMAGE
    )


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 4:
        n, height, width, channels = shape
        if channels in (1, 3, 4):
            return (n * channels, height, width)
        return (n * height, width, channels)  # [n, channels, height, width]
    return shape
