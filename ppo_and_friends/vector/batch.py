"""A batch of raw observations, into which each environment's is copied as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.nested import built, parts, pick
from ppo_and_friends.vector.spaces import leaves

Array = NDArray[Any]
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], Array]


class ObservationBatch:
    """Observations of B environments; parts that aren't encoded are left out.

    Copying at once matters: an environment may return one array again and again, or several environments
    may share it.

    Attributes:
        value: Dicts and tuples as in the space, of arrays [B, *part shape]; None for parts left out.
    """

    def __init__(self, space: spaces.Space[Any], rows: int, allocate: Allocate = np.zeros) -> None:
        """Allocate the arrays.

        Args:
            space: Of one observation, as the environment declares it.
            rows: B.
            allocate: Makes an array from its shape and dtype.
        """
        self._arrays = [
            (leaf.path, allocate((rows, *(leaf.space.shape or ())), np.dtype(leaf.space.dtype)))
            for leaf in leaves(space)
        ]
        known = dict(self._arrays)
        self.value: Any = built(space, [known.get(path) for path, _ in parts(space)])

    def row(self, row: int) -> list[Array]:
        """The parts of a row's observation that are encoded."""
        return [array[row].copy() for _, array in self._arrays]

    def set_row(self, row: int, parts: list[Array]) -> None:
        """Undoes ``row``."""
        for (_, array), part in zip(self._arrays, parts, strict=True):
            array[row] = part

    def write(self, row: int, observation: Any) -> None:
        """Copy a checked observation into its row."""
        for path, array in self._arrays:
            array[row] = pick(observation, path)
