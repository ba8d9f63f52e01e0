"""The communicator of a single process, in which every collective is the identity."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import numpy as np

from ppo_and_friends.distributed.communicator import Array, Communicator, check_buffer


class SoloCommunicator(Communicator):
    """The communicator of a program that runs without mpirun or srun. Needs no MPI."""

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1

    def sum_(self, array: Array) -> None:
        """See ``Communicator.sum_``."""
        check_buffer(array, reduce=True)

    def max_(self, array: Array) -> None:
        """See ``Communicator.max_``."""
        check_buffer(array, reduce=True)

    def broadcast_(self, array: Array) -> None:
        """See ``Communicator.broadcast_``."""
        check_buffer(array)

    def broadcast(self, value: Any) -> Any:
        """See ``Communicator.broadcast``."""
        return value

    def concatenate(self, rows: Array) -> Array:
        """See ``Communicator.concatenate``; returns a copy, as with several ranks."""
        return np.array(rows, copy=True, order="C")

    def gather(self, value: Any) -> list[Any]:
        """See ``Communicator.gather``."""
        return [value]

    def barrier(self) -> None:
        """See ``Communicator.barrier``."""

    def abort(self, exit_code: int) -> NoReturn:
        """Exit the program with ``SystemExit``, as there are no other ranks to stop."""
        sys.exit(exit_code)
