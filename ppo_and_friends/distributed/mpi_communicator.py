"""Ranks of an MPI job, by mpi4py. Importing this module starts MPI; see ``launch`` for when."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NoReturn

import mpi4py
import numpy as np

# One thread talks to MPI; asking for no more spares its locks on every call.
mpi4py.rc(thread_level="funneled")
from mpi4py import MPI  # noqa: E402

from ppo_and_friends.distributed.communicator import Array, Communicator, check_buffer  # noqa: E402

EAGER_SECONDS = 200e-6
"""How long a collective is polled for without a pause: longer than it takes when all ranks are there."""

NAP_SECONDS = 20e-6
"""Pause between polls after that."""


class MPICommunicator(Communicator):
    """All ranks of the job. Arrays travel as buffers and in place, other values by pickle.

    Args:
        world: The communicator to copy; None: all ranks of the job.
    """

    def __init__(self, world: MPI.Intracomm | None = None) -> None:
        self._comm = (world or MPI.COMM_WORLD).Dup()
        # For ``meet``, which must not be mistaken for a collective that another rank is waiting in.
        self._end = self._comm.Dup()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()

    @staticmethod
    def _wait(request: MPI.Request) -> None:
        """Wait for a collective: eagerly at first, then in naps that leave the core to other ranks.

        A blocking call would spin, and with more ranks than cores keep those it waits for from
        running; nor would Python see a signal before it returns.
        """
        eager_until = time.perf_counter() + EAGER_SECONDS
        while not request.Test():
            if time.perf_counter() > eager_until:
                time.sleep(NAP_SECONDS)

    def sum_(self, array: Array) -> None:
        """See ``Communicator.sum_``."""
        check_buffer(array, reduce=True)
        self._wait(self._comm.Iallreduce(MPI.IN_PLACE, array, op=MPI.SUM))

    def max_(self, array: Array) -> None:
        """See ``Communicator.max_``."""
        check_buffer(array, reduce=True)
        if array.dtype.kind != "f":
            self._wait(self._comm.Iallreduce(MPI.IN_PLACE, array, op=MPI.MAX))
            return
        # MPI.MAX compares, and every comparison with NaN is false: send where the NaN are as well.
        missing = np.isnan(array)
        both = np.stack([np.where(missing, -np.inf, array), missing]).astype(array.dtype)
        self._wait(self._comm.Iallreduce(MPI.IN_PLACE, both, op=MPI.MAX))
        array[...] = np.where(both[1] > 0, np.nan, both[0])

    def broadcast_(self, array: Array) -> None:
        """See ``Communicator.broadcast_``."""
        check_buffer(array)
        self._wait(self._comm.Ibcast([array, array.nbytes, MPI.BYTE], root=0))

    def broadcast(self, value: Any) -> Any:
        """See ``Communicator.broadcast``."""
        return self._comm.bcast(value, root=0)

    def concatenate(self, rows: Array) -> Array:
        """See ``Communicator.concatenate``."""
        rows = np.ascontiguousarray(rows)
        counts = np.empty(self.size, dtype=np.int64)
        self._comm.Allgather(np.array([len(rows)], dtype=np.int64), counts)
        result = np.empty((int(counts.sum()), *rows.shape[1:]), dtype=rows.dtype)
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
        sizes = [int(count) * row_bytes for count in counts]
        self._comm.Allgatherv([rows, rows.nbytes, MPI.BYTE], [result, sizes, None, MPI.BYTE])
        return result

    def gather(self, value: Any) -> list[Any]:
        """See ``Communicator.gather``."""
        return list(self._comm.allgather(value))

    def barrier(self) -> None:
        """See ``Communicator.barrier``."""
        self._wait(self._comm.Ibarrier())

    def meet(self, seconds: float) -> bool:
        """See ``Communicator.meet``: a non-blocking barrier, waited for in small naps."""
        request = self._end.Ibarrier()
        deadline = time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def abort(self, exit_code: int) -> NoReturn:
        """End the whole job with ``MPI_Abort``, after writing out what was printed."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, RuntimeError):
                continue  # a closed pipe, or a signal in the midst of a write, must not keep the job alive
        self._comm.Abort(exit_code)
        os._exit(exit_code)  # MPI_Abort doesn't return; this says so to the type checker
