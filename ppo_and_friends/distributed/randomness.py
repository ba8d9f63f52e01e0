"""Counter-based randomness: what is drawn depends on what it is for, not on who draws it.

Every stream is a Philox generator (Salmon et al. 2011) keyed by the run's seed and a purpose, with
the iteration and the global environment index in the counter. So a run draws the same numbers on
any number of ranks, and resuming needs no generator state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.distributed.layout import Layout

NoiseKind = Literal["normal", "uniform"]


class Purpose(IntEnum):
    """What a stream of random numbers is for; streams of different purposes are independent."""

    ACTIONS = 1
    SHUFFLE = 2
    INITIALISATION = 3
    RESET = 4
    EVALUATION = 5
    FRIENDS = 6


@dataclass(frozen=True)
class Randomness:
    """All random streams of a run."""

    seed: int
    """The run's seed, in [0, 2^63)."""

    def generator(self, purpose: int, *position: int) -> np.random.Generator:
        """A fresh generator for ``purpose`` at ``position`` (up to three numbers, each < 2^64)."""
        counter = (0, *position, *(0,) * (3 - len(position)))
        return np.random.Generator(np.random.Philox(key=(self.seed, int(purpose)), counter=counter))

    def integer(self, purpose: int, *position: int) -> int:
        """A number in [0, 2^30), for libraries that want a seed. Leaves room to add an index."""
        return int(self.generator(purpose, *position).integers(2**30))

    def noise(
        self, kind: NoiseKind, iteration: int, layout: Layout, steps: int, size: int
    ) -> NDArray[np.float32]:
        """Exploration noise of a whole rollout for this rank's environments.

        Returns:
            [T, B, size] float32: standard normal, or uniform in [0, 1).
        """
        noise = np.empty((steps, layout.local, size), dtype=np.float32)
        for row, generator in enumerate(self._environments(layout, Purpose.ACTIONS, iteration)):
            draw = generator.standard_normal if kind == "normal" else generator.random
            noise[:, row] = draw((steps, size), dtype=np.float32)
        return noise

    def shuffles(self, iteration: int, epoch: int, layout: Layout, steps: int) -> NDArray[Any]:
        """Each environment's own order of its steps in an epoch.

        Returns:
            [T, B] int64, each column a permutation of 0..T-1.
        """
        order = np.empty((steps, layout.local), dtype=np.int64)
        for row, generator in enumerate(self._environments(layout, Purpose.SHUFFLE, iteration, epoch)):
            order[:, row] = generator.permutation(steps)
        return order

    def _environments(self, layout: Layout, purpose: int, *position: int) -> Iterator[np.random.Generator]:
        """``generator(purpose, *position, index)`` for each of this rank's environments in turn.

        It is one object that is moved from each to the next, a tenth of the time of making one.
        """
        generator = self.generator(purpose, *position)
        state: Any = generator.bit_generator.state
        for index in range(layout.first, layout.first + layout.local):
            state["state"]["counter"][1 + len(position)] = index
            generator.bit_generator.state = state
            yield generator
