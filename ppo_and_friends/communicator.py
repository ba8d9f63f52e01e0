"""How ranks talk: the small interface the trainer uses, alone, threaded (for tests) or over MPI.

Collectives are called by every rank, in the same order, never under a condition that can differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Communicator(ABC):
    """W ranks that run the same program on different environments."""

    rank: int
    """This rank, in [0, size)."""

    size: int
    """W, the number of ranks."""

    @property
    def is_main(self) -> bool:
        """Whether this rank is the one that speaks and writes files."""
        return self.rank == 0

    @abstractmethod
    def sum_(self, array: Array) -> None:
        """Replace a contiguous array, in place, by its sum over the ranks. Same bits on all ranks."""

    @abstractmethod
    def max_(self, array: Array) -> None:
        """Replace a contiguous array, in place, by its maximum over the ranks."""

    @abstractmethod
    def broadcast_(self, array: Array) -> None:
        """Replace a contiguous array, in place, by rank 0's."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Rank 0's (picklable, small) value, on every rank."""

    @abstractmethod
    def concatenate(self, rows: Array) -> Array:
        """All ranks' rows ([n, ...], n may differ by rank), in rank order, on every rank."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Every rank's (picklable, small) value, in rank order, on every rank."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""

    @abstractmethod
    def abort(self, exit_code: int) -> NoReturn:
        """End the whole job at once, on all ranks."""

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set."""
        array = np.array([flag], dtype=np.int64)
        self.max_(array)
        return bool(array[0])
