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
        """Replace a contiguous array, in place, by its sum over the ranks. Same bits on all ranks.

        Args:
            array: Of any shape, writable, C-contiguous, float32, float64, int32 or int64.

        Raises:
            TypeError: Another dtype.
            ValueError: Not contiguous or not writable.
        """

    @abstractmethod
    def max_(self, array: Array) -> None:
        """Replace a contiguous array, in place, by its maximum over the ranks.

        A NaN on any rank gives NaN on all of them, as ``numpy.maximum`` does (MPI alone leaves it
        open). Arguments and errors are those of ``sum_``.
        """

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

    def meet(self, seconds: float) -> bool:
        """Whether every rank calls this within ``seconds`` of the first one.

        The only collective that may be called by some ranks alone. It is for the end of a program:
        when it returns False the communicator is of no more use but for ``abort``.
        """
        return True

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set."""
        array = np.array([flag], dtype=np.int64)
        self.max_(array)
        return bool(array[0])


REDUCIBLE = frozenset("fdilq")
"""Type characters of what can be summed: float32, float64, int32, int64."""


def check_buffer(array: Array, *, reduce: bool = False) -> None:
    """Refuse what can't be sent as a buffer, in place and without a silent copy.

    Raises:
        TypeError: Not a NumPy array of numbers; with ``reduce``, not float32/64 or int32/64.
        ValueError: Not C-contiguous, or not writable.
    """
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise TypeError(f"a NumPy array of numbers is needed, not {type(array).__name__}")
    if reduce and array.dtype.char not in REDUCIBLE:
        raise TypeError(f"only float32, float64, int32 and int64 are reduced over ranks, not {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError("the array must be C-contiguous: it is changed in place")
    if not array.flags.writeable:
        raise ValueError("the array must be writable: it is changed in place")
