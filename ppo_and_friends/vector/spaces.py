"""Supported spaces, the parts of an observation, and the space of encoded observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.common.images import image_axes
from ppo_and_friends.common.nested import named, parts
from ppo_and_friends.errors import UsageError

SUPPORTED_OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple of those"
SUPPORTED_ACTIONS = "Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple of those"

MOST_CATEGORIES = 2**16
"""Most categories that an observation is one-hot encoded in: a rollout of 4096 steps then takes 1 GiB."""


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


class LeftOut(spaces.Space[Any]):
    """A part of an observation that the policy doesn't see; stands for its space where a policy is loaded."""

    def __init__(self, kind: str) -> None:
        """Args: kind: What it was, such as ``Text``."""
        super().__init__()
        self.kind = kind

    def __repr__(self) -> str:
        """As it is written in code."""
        return f"LeftOut({self.kind!r})"


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
    """Return the parts of a supported space, in the order in which they are flattened.

    Parts that can't be encoded are left out.
    """
    found: list[Leaf] = []
    start = 0
    for path, part in parts(space):
        if not _is_known(part):
            continue
        key = named("observation", path)
        size = _flat_size(part)
        found.append(Leaf(key, path, part, start, size))
        start += size
    return found


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Check that observations from a space can be encoded, at least in part.

    Raises:
        UsageError: They can't; names the part that isn't supported.
    """
    found = list(parts(space))
    if not found:
        raise UsageError(f"observation space {space} is empty; a policy needs at least one observation.")
    known = [(path, part) for path, part in found if _is_known(part)]
    for path, part in known or found[:1]:
        key = named("observation", path)
        _check_part(part, key, SUPPORTED_OBSERVATIONS)
        _check_categories(part, key)


def left_out(space: spaces.Space[Any]) -> list[str]:
    """Name the parts of an observation that can't be encoded, and are left out because others can."""
    return [
        f"{named('observation', path)} ({type(part).__name__})"
        for path, part in parts(space)
        if not _is_known(part)
    ]


def check_action_space(space: spaces.Space[Any]) -> None:
    """Check that an action space is supported.

    Raises:
        UsageError: It isn't; names the space and the supported ones.
    """
    found = list(parts(space))
    if not found:
        raise UsageError(f"action space {space} is empty; a policy needs at least one action.")
    for path, part in found:
        _check_part(part, named("action", path), SUPPORTED_ACTIONS)


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
    shape = kept_image(space)
    if shape is not None:
        return spaces.Box(0, 255, shape, np.uint8)
    encoded = leaves(space)
    size = sum(part.size for part in encoded)
    if _is_bytes(space):
        box = EncodedBox(0, 255, (size,), np.uint8)
    else:
        wide = any(isinstance(part.space, spaces.Box) and part.space.dtype == np.float64 for part in encoded)
        box = EncodedBox(-np.inf, np.inf, (size,), np.float64 if wide else np.float32)
    box.parts = tuple(encoded)
    return box


def _is_known(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def _check_part(space: spaces.Space[Any], key: str, supported: str) -> None:
    if isinstance(space, spaces.Box):
        if space.dtype.kind not in "fiub":
            raise UsageError(f"{key} space {space} has dtype {space.dtype}; only real numbers are supported.")
        if 0 in space.shape:
            raise UsageError(f"{key} space {space} has no elements.")
    elif not _is_known(space):
        raise UsageError(f"{key} space {space} is not supported. Supported: {supported}.")
    elif _flat_size(space) == 0:
        raise UsageError(f"{key} space {space} has no elements.")


def _check_categories(space: spaces.Space[Any], key: str) -> None:
    size = _flat_size(space)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and size > MOST_CATEGORIES:
        raise UsageError(
            f"{key} space {_short(space)} would be one-hot encoded in {size:,} numbers, and a rollout of "
            f"4096 steps take {4096 * size * 4 / 2**30:,.0f} GiB; the most are {MOST_CATEGORIES:,}.\n"
            "Let a wrapper (environment.wrappers) make a Box or a MultiDiscrete of it, such as its digits."
        )


def _short(space: spaces.Space[Any]) -> str:
    text = str(space)
    return text if len(text) <= 60 else f"{type(space).__name__} of {_flat_size(space):,} categories"


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


def kept_image(space: spaces.Space[Any]) -> tuple[int, ...] | None:
    """The shape in which observations are kept as images: bytes, large enough for convolutions; None: not."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3, 4):
        return None
    shape = _image_shape(space.shape)
    axes = image_axes(shape)
    return shape if axes is not None and axes.large_enough else None


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 4:
        n, height, width, channels = shape
        if channels in (1, 3, 4):
            return (n * channels, height, width)
        return (n * height, width, channels)  # [n, channels, height, width]
    return shape
