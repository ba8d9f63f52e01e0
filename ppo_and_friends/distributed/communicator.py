"""The communication interface the trainer uses: single-process, threaded (for tests) or over MPI.

Every rank must call the same collectives in the same order, so a collective must never depend on a
condition that can differ between ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Communicator(ABC):
    """Communication between the W ranks, which run the same program on different environments."""

    rank: int
    """This rank, in [0, size)."""

    size: int
    """W, the number of ranks."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone prints and writes files."""
        return self.rank == 0

    @property
    def processes(self) -> int:
        """The number of processes that the ranks are in: as many, unless ranks are shards (`shards`)."""
        return self.size

    @property
    def has_fixed_order(self) -> bool:
        """Whether the order of a sum is part of the run, so that no other library may do it instead."""
        return False

    @abstractmethod
    def sum_(self, array: Array) -> None:
        """Replace an array, in place, with its sum over the ranks; bitwise equal on all ranks.

        Args:
            array: Any shape; writable and C-contiguous; float32, float64, int32 or int64.

        Raises:
            TypeError: The array has another dtype.
            ValueError: The array is not C-contiguous or not writable.
        """

    @abstractmethod
    def max_(self, array: Array) -> None:
        """Replace an array, in place, with its elementwise maximum over the ranks.

        A NaN on any rank gives NaN on all ranks, as with ``numpy.maximum`` (MPI itself leaves this
        undefined). Arguments and errors are those of ``sum_``.
        """

    @abstractmethod
    def broadcast_(self, array: Array) -> None:
        """Replace an array, in place, with rank 0's.

        Args:
            array: C-contiguous and writable, of the same shape and dtype on all ranks.

        Raises:
            TypeError: The argument is not a NumPy array, or holds Python objects.
            ValueError: The array is not C-contiguous or not writable.
        """

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value (small and picklable) on every rank."""

    @abstractmethod
    def concatenate(self, rows: Array) -> Array:
        """Return the rows of all ranks, in rank order, on every rank.

        Args:
            rows: [n, ...]; n may differ between ranks, the dtype and the other dimensions may not.

        Returns:
            [sum of n over the ranks, ...], a new array.
        """

    def all_to_all(self, parts: Array, counts: Sequence[int]) -> Array:
        """Send a part of an array to every rank; return the parts for this one, in rank order. Collective.

        Args:
            parts: [n, size, m], of which ``parts[:, i]`` is for rank i. Dtype and m are equal on all ranks.
            counts: n of every rank, the same on all of them.

        Returns:
            [sum of n over the ranks, m], a new array.
        """
        return np.ascontiguousarray(self.concatenate(parts)[:, self.rank])

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks (small and picklable), in rank order, on every rank."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has called this."""

    def split(self, group: int) -> Communicator:
        """Return a communicator of the ranks that name the same group, in the same order. Collective."""
        if self.size > 1:
            raise NotImplementedError(f"{type(self).__name__} can't be divided into groups")
        return self

    @abstractmethod
    def abort(self, exit_code: int) -> NoReturn:
        """Terminate the whole job, on all ranks, at once."""

    def meet(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for every rank to call this, and return whether they all did.

        This is the only collective that some ranks may call without the others. It is meant for the
        end of a program: after it has returned False, only ``abort`` may still be called.
        """
        return True

    def tell(self, number: int) -> None:
        """Tell every other rank a number >= 0, which it may ask for with `heard`. Not a collective."""
        return

    def heard(self) -> int | None:
        """A number that another rank has told; None: none is there. Not a collective, and doesn't wait."""
        return None

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank. Collective."""
        array = np.array([flag], dtype=np.int64)
        self.max_(array)
        return bool(array[0])


REDUCIBLE = frozenset("fdilq")
"""NumPy type characters of the dtypes that can be reduced: float32, float64, int32, int64."""


def check_buffer(array: Array, *, reduce: bool = False) -> None:
    """Check that an array can be communicated in place, without a hidden copy.

    Args:
        array: What is to be sent.
        reduce: Whether it will be reduced, which only some dtypes support.

    Raises:
        TypeError: Not a NumPy array of numbers; with ``reduce``, not float32/64 or int32/64.
        ValueError: Not C-contiguous, or not writable.
    """
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise TypeError(f"expected a NumPy array of numbers, got {type(array).__name__}")
    if reduce and array.dtype.char not in REDUCIBLE:
        raise TypeError(f"only float32, float64, int32 and int64 arrays can be reduced, not {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError("the array must be C-contiguous, because it is modified in place")
    if not array.flags.writeable:
        raise ValueError("the array must be writable, because it is modified in place")
