"""The communicator of an MPI job, based on mpi4py. Importing this loads MPI, and `initialize` starts it."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import mpi4py
import numpy as np

mpi4py.rc(initialize=False, finalize=True)
# UCX, of which MPICH consists in part, takes SIGHUP for "print everything" and thereby swallows it.
os.environ.setdefault("UCX_DEBUG_SIGNO", "0")
from mpi4py import MPI  # noqa: E402

from ppo_and_friends.distributed.communicator import Array, Communicator, check_buffer  # noqa: E402
from ppo_and_friends.distributed.leftovers import remove_leftovers  # noqa: E402

SPIN_SECONDS = 200e-6
"""How long a collective is polled without pauses: longer than it takes once all ranks have arrived."""

POLL_SECONDS = 20e-6
"""Pause between polls after that."""

ABORT_SECONDS = 5.0
"""How long MPI may take to abort a job before this process ends without it."""


def initialize(check: Callable[[str], None]) -> None:
    """Start MPI, unless the program has.

    Args:
        check: Called with what the library says of itself; raises if it can't be used.
    """
    if MPI.Is_initialized():
        return
    check(MPI.Get_library_version())
    remove_leftovers()
    # One thread at a time calls MPI; a higher level locks on every call.
    MPI.Init_thread(MPI.THREAD_SERIALIZED)


class MPICommunicator(Communicator):
    """All ranks of an MPI job. Arrays are sent as buffers, in place; other values are pickled.

    Args:
        world: The MPI communicator to duplicate; None: ``MPI.COMM_WORLD``, all ranks of the job.
    """

    def __init__(self, world: MPI.Intracomm | None = None) -> None:
        self._comm = (world or MPI.COMM_WORLD).Dup()
        # ``meet`` has its own, so that it can't be matched with a collective in which another rank waits.
        self._end = self._comm.Dup()
        self._news = self._comm.Dup()
        self._sent: list[tuple[MPI.Request, Array]] = []
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()

    @staticmethod
    def _wait(request: MPI.Request) -> None:
        """Wait for a collective: spin at first, then poll every 20 us and yield the core in between.

        A blocking call would spin throughout. With more ranks than cores it would thereby keep the
        ranks it waits for from running, and Python could not handle signals until it returned.
        """
        spin_until = time.perf_counter() + SPIN_SECONDS
        while not request.Test():
            if time.perf_counter() > spin_until:
                time.sleep(POLL_SECONDS)

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
        # What MPI.MAX does with NaN is undefined, so NaN are sent as a second array of flags.
        is_nan = np.isnan(array)
        both = np.stack([np.where(is_nan, -np.inf, array), is_nan]).astype(array.dtype)
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

    def all_to_all(self, parts: Array, counts: Sequence[int]) -> Array:
        """See ``Communicator.all_to_all``."""
        own, size, width = parts.shape
        by_rank = np.ascontiguousarray(parts.swapaxes(0, 1))
        result = np.empty((sum(counts), width), dtype=parts.dtype)
        row_bytes = parts.dtype.itemsize * width
        sent = [own * row_bytes] * size
        received = [count * row_bytes for count in counts]
        self._wait(self._comm.Ialltoallv([by_rank, sent, None, MPI.BYTE], [result, received, None, MPI.BYTE]))
        return result

    def gather(self, value: Any) -> list[Any]:
        """See ``Communicator.gather``."""
        return list(self._comm.allgather(value))

    def barrier(self) -> None:
        """See ``Communicator.barrier``."""
        self._wait(self._comm.Ibarrier())

    def split(self, group: int) -> Communicator:
        """See ``Communicator.split``."""
        return MPICommunicator(MPI.Intracomm(self._comm.Split(group, self.rank)))

    def meet(self, seconds: float) -> bool:
        """See ``Communicator.meet``; a non-blocking barrier that is polled every 5 ms."""
        request = self._end.Ibarrier()
        deadline = time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def tell(self, number: int) -> None:
        """See ``Communicator.tell``; messages and requests are kept, as nobody waits for their arrival."""
        message = np.array([number], dtype=np.int64)
        others = [rank for rank in range(self.size) if rank != self.rank]
        self._sent += [(self._news.Isend(message, dest=rank), message) for rank in others]

    def heard(self) -> int | None:
        """See ``Communicator.heard``."""
        if not self._news.Iprobe():
            return None
        message = np.empty(1, dtype=np.int64)
        self._news.Recv(message)
        return int(message[0])

    def abort(self, exit_code: int) -> NoReturn:
        """Terminate the whole job with ``MPI_Abort``, after flushing stdout and stderr."""
        for output in (sys.stdout, sys.stderr):
            try:
                output.flush()
            except (OSError, ValueError, RuntimeError):
                continue  # a closed pipe, or a write that a signal interrupted, must not keep the job alive
        # MPI_Abort asks the launcher, which may be out of reach, and keeps Python from running meanwhile:
        # this ends the process from a thread that needs neither.
        faulthandler.dump_traceback_later(ABORT_SECONDS, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
        self._comm.Abort(exit_code)
        os._exit(exit_code)  # never reached, as MPI_Abort doesn't return; tells the type checker so
