"""A communicator that tells how long its collectives take, waiting for other ranks included."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NoReturn

from ppo_and_friends.distributed.communicator import Array, Communicator


class TimedCommunicator(Communicator):
    """Hands every call on to another communicator, inside a context that measures it."""

    def __init__(self, inner: Communicator, lap: AbstractContextManager[Any]) -> None:
        """Wrap.

        Args:
            inner: Does the work.
            lap: Entered around every collective; reusable.
        """
        self.inner, self._lap = inner, lap
        self.rank, self.size = inner.rank, inner.size

    @property
    def processes(self) -> int:
        """As the inner one."""
        return self.inner.processes

    @property
    def has_fixed_order(self) -> bool:
        """As the inner one."""
        return self.inner.has_fixed_order

    def sum_(self, array: Array) -> None:
        """As the inner one."""
        with self._lap:
            self.inner.sum_(array)

    def max_(self, array: Array) -> None:
        """As the inner one."""
        with self._lap:
            self.inner.max_(array)

    def broadcast_(self, array: Array) -> None:
        """As the inner one."""
        with self._lap:
            self.inner.broadcast_(array)

    def broadcast(self, value: Any) -> Any:
        """As the inner one."""
        with self._lap:
            return self.inner.broadcast(value)

    def concatenate(self, rows: Array) -> Array:
        """As the inner one."""
        with self._lap:
            return self.inner.concatenate(rows)

    def gather(self, value: Any) -> list[Any]:
        """As the inner one."""
        with self._lap:
            return self.inner.gather(value)

    def barrier(self) -> None:
        """As the inner one."""
        with self._lap:
            self.inner.barrier()

    def split(self, group: int) -> Communicator:
        """A part of the inner one, measured as well."""
        return TimedCommunicator(self.inner.split(group), self._lap)

    def abort(self, exit_code: int) -> NoReturn:
        """As the inner one."""
        self.inner.abort(exit_code)

    def meet(self, seconds: float) -> bool:
        """As the inner one."""
        return self.inner.meet(seconds)
