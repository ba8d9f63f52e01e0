"""Ranks as threads of one process, which makes tests of distributed code fast and easy to debug."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np

from ppo_and_friends.distributed.communicator import Array, Communicator, check_buffer

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds for which a rank waits in a collective before it assumes that the others won't call it."""


class RanksOutOfStepError(RuntimeError):
    """The ranks called different collectives, or one of them ended or took too long."""


class Aborted(BaseException):
    """A rank called ``abort``.

    Attributes:
        exit_code: The exit code passed to ``abort``.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"aborted with exit code {exit_code}")
        self.exit_code = exit_code


class _Barrier:
    """Like ``threading.Barrier``, but once all ranks have arrived, all of them pass.

    With ``threading.Barrier``, a rank that aborts right after passing breaks the barrier for ranks that
    have not woken up yet.
    """

    def __init__(self, size: int, timeout: float) -> None:
        self._size, self._timeout = size, timeout
        self._condition = threading.Condition()
        self._waiting, self._round, self._broken = 0, 0, False

    def wait(self) -> bool:
        """Wait for all ranks; return whether they all arrived before the timeout and before ``abort``."""
        with self._condition:
            mine = self._round
            self._waiting += 1
            if self._waiting == self._size and not self._broken:
                self._waiting, self._round = 0, mine + 1
                self._condition.notify_all()
            self._condition.wait_for(lambda: self._round != mine or self._broken, self._timeout)
            return self._round != mine

    def abort(self) -> None:
        """Make this round and all later ones fail for the ranks that wait."""
        with self._condition:
            self._broken = True
            self._condition.notify_all()


class _World:
    """State shared by the ranks: a barrier, and a slot for each rank's value."""

    def __init__(self, size: int, timeout: float) -> None:
        self.size = size
        self.barrier = _Barrier(size, timeout)
        self.slots: list[Any] = [None] * size
        self.calls: list[str] = [""] * size
        self.ended = threading.Event()
        self.arrived = 0
        self.lock = threading.Lock()


class ThreadedCommunicator(Communicator):
    """One of the ranks of ``run_threaded``. Sums are in rank order, so all ranks get identical bits."""

    def __init__(self, world: _World, rank: int) -> None:
        self._world = world
        self.rank = rank
        self.size = world.size

    def _wait(self) -> None:
        if not self._world.barrier.wait():
            raise RanksOutOfStepError(f"rank {self.rank}: another rank has ended or is waiting elsewhere")

    def _exchange(self, call: str, value: Any, use: Callable[[list[Any]], T]) -> T:
        """Publish ``value`` and return ``use`` of all ranks' values, before any rank proceeds."""
        world = self._world
        world.slots[self.rank], world.calls[self.rank] = value, call
        self._wait()
        if len(set(world.calls)) > 1:
            raise RanksOutOfStepError(f"the ranks called different collectives: {world.calls}")
        result = use(world.slots)
        self._wait()
        return result

    def _reduce(self, name: str, array: Array, combine: np.ufunc) -> None:
        check_buffer(array, reduce=True)

        def use(slots: list[Any]) -> Array:
            total: Array = slots[0].copy()
            for other in slots[1:]:
                combine(total, other, out=total)
            return total

        array[...] = self._exchange(f"{name} {array.dtype}{array.shape}", array.copy(), use)

    def sum_(self, array: Array) -> None:
        """See ``Communicator.sum_``."""
        self._reduce("sum", array, np.add)

    def max_(self, array: Array) -> None:
        """See ``Communicator.max_``."""
        self._reduce("max", array, np.maximum)

    def broadcast_(self, array: Array) -> None:
        """See ``Communicator.broadcast_``."""
        check_buffer(array)
        call = f"broadcast {array.dtype}{array.shape}"
        array[...] = self._exchange(call, array.copy(), lambda slots: slots[0].copy())

    def broadcast(self, value: Any) -> Any:
        """See ``Communicator.broadcast``; returns the object itself, not a copy."""
        return self._exchange("broadcast", value, lambda slots: slots[0])

    def concatenate(self, rows: Array) -> Array:
        """See ``Communicator.concatenate``."""
        call = f"concatenate {rows.dtype}{rows.shape[1:]}"
        return self._exchange(call, rows, lambda slots: np.concatenate(slots))

    def gather(self, value: Any) -> list[Any]:
        """See ``Communicator.gather``; returns the objects themselves, not copies."""
        return self._exchange("gather", value, list)

    def barrier(self) -> None:
        """See ``Communicator.barrier``."""
        self._exchange("barrier", None, lambda slots: None)

    def meet(self, seconds: float) -> bool:
        """See ``Communicator.meet``."""
        world = self._world
        with world.lock:
            world.arrived += 1
            if world.arrived == world.size:
                world.ended.set()
        return world.ended.wait(seconds)

    def abort(self, exit_code: int) -> NoReturn:
        """End all ranks: ``run_threaded`` raises ``Aborted``."""
        raise Aborted(exit_code)


def run_threaded(size: int, fn: Callable[[Communicator], T], timeout: float = TIMEOUT) -> list[T]:
    """Run ``fn(communicator)`` on ``size`` ranks, each in a thread; return the results in rank order.

    Args:
        size: Number of ranks, at least 1.
        fn: Called once per rank with that rank's communicator.
        timeout: Seconds for which a rank waits in a collective for the others.

    Raises:
        BaseException: Whatever the first failing rank raised. Its collectives then fail on the others.
        RanksOutOfStepError: The ranks called different collectives, or waited longer than ``timeout``.
    """
    world = _World(size, timeout)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            results[rank] = fn(ThreadedCommunicator(world, rank))
        except BaseException as error:
            errors.append(error)
            world.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,), name=f"rank {rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        # Other ranks may only have noticed the failure; report the original error of the first one.
        raise next((error for error in errors if not isinstance(error, RanksOutOfStepError)), errors[0])
    return [results[rank] for rank in range(size)]
