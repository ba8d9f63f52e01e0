"""Shards: a run that is defined on a fixed number of ranks, each of which any process may host.

With ``deterministic_shards = V`` a run has V *shards*. To everything above this module a shard is a rank: it
has its share of the environments, its own copy of the network, and a `ShardCommunicator` of size V. A process
hosts one shard or several consecutive ones. Hence the shapes of all arithmetic are those of a shard, and sums
have a fixed order (`fixed_tree`), however many processes there are: the results are equal bit for bit.

A process's shards take turns in one thread, as greenlets: a shard runs until its next collective, then it is
the next one's turn. So the order of everything is fixed, and changing turns costs less than a microsecond;
threads would have to wake each other, mostly on another core.
"""

from __future__ import annotations

import contextvars
import os
import pickle
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from greenlet import getcurrent, greenlet

from ppo_and_friends.distributed.communicator import Array, Communicator, check_buffer
from ppo_and_friends.distributed.fixed_tree import Range, subtrees, tree_sum_
from ppo_and_friends.errors import UsageError

T = TypeVar("T")

BLAS_SETTING = "MKL_CBWR"
"""MKL's environment variable for "conditional numerical reproducibility"."""


class ShardFailed(RuntimeError):
    """Another shard of this process failed, or made other collectives; its own error says why."""


def ignore_alignment() -> None:
    """Tell MKL, unless the user told it anything, to compute without regard to arrays' places in memory.

    It reads the variable at the first matrix multiplication of the process, which is made here.
    """
    if BLAS_SETTING not in os.environ:
        os.environ[BLAS_SETTING] = "AUTO"
        torch.ones(64, 64) @ torch.ones(64, 64)
        del os.environ[BLAS_SETTING]


def shards_of(process: int, processes: int, shards: int) -> Range:
    """Return the consecutive shards that a process hosts; the first ones host the remainder.

    Args:
        process: In [0, processes).
        processes: At least 1.
        shards: V, at least as many.
    """
    share, remainder = divmod(shards, processes)
    first = process * share + min(process, remainder)
    return first, first + share + (process < remainder)


class HostedShards:
    """The shards of this process.

    Args:
        communicator: The processes'.
        shards: V, the number of shards over all processes.

    Attributes:
        communicators: One for each shard that this process hosts.

    Raises:
        UsageError: On all ranks, if there are fewer shards than processes.
    """

    def __init__(self, communicator: Communicator, shards: int) -> None:
        if shards < communicator.size:
            raise UsageError(
                f"deterministic_shards={shards} can be hosted by {shards} ranks or fewer, not by "
                f"{communicator.size}. Start fewer ranks; another number of shards is another run."
            )
        ignore_alignment()
        self.processes, self.total = communicator, shards
        self.first, last = shards_of(communicator.rank, communicator.size, shards)
        self.count = last - self.first
        parts = [shards_of(process, communicator.size, shards) for process in range(communicator.size)]
        self._nodes = [list(subtrees(part, shards)) for part in parts]
        self.communicators = [ShardCommunicator(self, local) for local in range(self.count)]
        self._calls, self._values = [""] * self.count, [None] * self.count
        self._result: Any = None
        self._exchanges = 0
        self._results: list[Any] = [None] * self.count
        self._errors: dict[int, BaseException] = {}
        self._ended: set[int] = set()
        self._broken = False
        self._hub = getcurrent()

    def sum_(self, arrays: list[Array]) -> None:
        """Replace the shards' arrays by the sum over all shards, in the order of `fixed_tree`. Collective.

        Args:
            arrays: Those of this process's shards, in order.
        """
        numbers = range(self.first, self.first + self.count)
        own = {(number, number + 1): array for number, array in zip(numbers, arrays, strict=True)}
        sums = [tree_sum_(node, own.get) for node in self._nodes[self.processes.rank]]
        total = sums[0]
        if all(len(nodes) == 1 for nodes in self._nodes) and len(self._nodes) <= 2:
            self.processes.sum_(total)  # of two terms, the order doesn't matter
        else:
            total = self._sum_of_nodes(sums, arrays[0])
        for array in arrays:
            if array is not total:
                array[...] = total

    def _sum_of_nodes(self, sums: list[Array], like: Array) -> Array:
        """The sum over all processes' nodes of the tree, of which these are this process's."""
        size = self.processes.size
        # Every process adds up a slice of the array: for many processes, all of all sums would be too much.
        width = -(-like.size // size)
        parts = np.zeros((len(sums), size * width), like.dtype)
        for part, each in zip(parts, sums, strict=True):
            part[: each.size] = each.reshape(-1)
        counts = [len(nodes) for nodes in self._nodes]
        rows = self.processes.all_to_all(parts.reshape(len(sums), size, width), counts)
        nodes = [node for nodes in self._nodes for node in nodes]
        own_slice = tree_sum_((0, self.total), dict(zip(nodes, rows, strict=True)).get)
        whole = self.processes.all_to_all(np.broadcast_to(own_slice, (1, size, width)), [1] * size)
        return whole.reshape(-1)[: like.size].reshape(like.shape)

    def run(self, task: Callable[[int], T]) -> list[T]:
        """Run ``task(local index)`` on every shard of this process; return the results in order. Collective.

        Raises:
            BaseException: What the task raised on the first shard that failed. The others are ended at their
                next collective.
        """
        self._broken, self._hub = False, getcurrent()
        self._errors.clear()
        self._ended.clear()
        shards = [greenlet(self._attempt) for _ in range(self.count)]
        waiting = list(enumerate(shards))
        local = 0
        while waiting:
            try:
                while waiting:
                    for local, shard in waiting:
                        if shard:
                            shard.switch()
                        elif not self._broken:
                            shard.gr_context = contextvars.copy_context()
                            shard.switch(task, local)
                    waiting = [(local, shard) for local, shard in waiting if shard]  # begun, and not ended
            except BaseException as error:  # of a signal's handler, between two turns or anywhere here
                self._errors.setdefault(local, error)
                self._broken = True
                waiting = [(local, shard) for local, shard in waiting if shard]
        self._result = None
        if self._errors:
            errors = [self._errors[local] for local in sorted(self._errors)]
            raise next((error for error in errors if not isinstance(error, ShardFailed)), errors[0])
        return list(self._results)

    def exchange(self, local: int, call: str, value: Any, combine: Callable[[list[Any]], T]) -> T:
        """Let all shards of this process arrive, and return what ``combine`` makes of their values.

        Args:
            local: The shard that calls.
            call: What it calls; all must call the same.
            value: Its part.
            combine: Called once, on the first shard, with all values in order.

        Raises:
            ShardFailed: Another shard has failed, has ended or called something else.
        """
        self._calls[local], self._values[local] = call, value
        number = self._exchanges
        if self.count > 1:
            self._pass_on()
        if local == 0 and not self._broken and not self._ended and len(set(self._calls)) == 1:
            self._exchanges, self._result = number + 1, combine(self._values)
        if self._exchanges == number or self._broken:
            self._broken = True
            raise ShardFailed(f"the shards of a process called different collectives: {self._calls}")
        return self._result  # type: ignore[no-any-return]

    def _attempt(self, task: Callable[[int], Any], local: int) -> None:
        """What a shard does in its turns."""
        try:
            self._results[local] = task(local)
        except BaseException as error:
            self._errors.setdefault(local, error)
            self._broken = True
        self._ended.add(local)

    def _pass_on(self) -> None:
        """Let the others have their turns."""
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            self._hub.switch()
        else:  # a thread's state, and not what the next shard is in
            with torch.inference_mode(False), torch.enable_grad():
                self._hub.switch()


class ShardCommunicator(Communicator):
    """A shard's view of all shards: rank is its number, size V.

    Args:
        host: The process's shards.
        local: Which of them.
    """

    def __init__(self, host: HostedShards, local: int) -> None:
        self._host, self._local = host, local
        self.rank, self.size = host.first + local, host.total

    @property
    def processes(self) -> int:
        """See ``Communicator.processes``."""
        return self._host.processes.size

    @property
    def has_fixed_order(self) -> bool:
        """Yes; and a process would wait forever for NCCL to meet the shards whose turn it isn't."""
        return True

    def sum_(self, array: Array) -> None:
        """See ``Communicator.sum_``; in the order of `fixed_tree`."""
        check_buffer(array, reduce=True)
        self._exchange(f"sum {array.dtype}{array.shape}", array, self._host.sum_)

    def max_(self, array: Array) -> None:
        """See ``Communicator.max_``."""
        check_buffer(array, reduce=True)

        def combine(values: list[Array]) -> Array:
            highest: Array = np.maximum.reduce(values, out=np.empty_like(values[0]))
            self._host.processes.max_(highest)
            highest += 0  # of 0.0 and -0.0, which are equal, either may have been chosen
            return highest

        array[...] = self._exchange(f"max {array.dtype}{array.shape}", array, combine)

    def broadcast_(self, array: Array) -> None:
        """See ``Communicator.broadcast_``."""
        check_buffer(array)

        def combine(values: list[Array]) -> Array:
            first: Array = values[0].copy()
            self._host.processes.broadcast_(first)
            return first

        array[...] = self._exchange(f"broadcast {array.dtype}{array.shape}", array, combine)

    def broadcast(self, value: Any) -> Any:
        """See ``Communicator.broadcast``."""
        processes = self._host.processes
        return self._copies("broadcast", value, lambda values: processes.broadcast(values[0]))

    def concatenate(self, rows: Array) -> Array:
        """See ``Communicator.concatenate``."""
        processes = self._host.processes
        call = f"concatenate {rows.dtype}{rows.shape[1:]}"
        found = self._exchange(call, rows, lambda values: processes.concatenate(np.concatenate(values)))
        return found.copy()

    def gather(self, value: Any) -> list[Any]:
        """See ``Communicator.gather``."""
        processes = self._host.processes

        def combine(values: list[Any]) -> list[Any]:
            return [each for part in processes.gather(list(values)) for each in part]

        return self._copies("gather", value, combine)

    def barrier(self) -> None:
        """See ``Communicator.barrier``."""
        self._exchange("barrier", None, lambda values: self._host.processes.barrier())

    def abort(self, exit_code: int) -> NoReturn:
        """See ``Communicator.abort``."""
        self._host.processes.abort(exit_code)

    def _exchange(self, call: str, value: Any, combine: Callable[[list[Any]], T]) -> T:
        return self._host.exchange(self._local, call, value, combine)

    def _copies(self, call: str, value: Any, combine: Callable[[list[Any]], T]) -> T:
        """The same, a copy as if from another process: shards share nothing that can be changed.

        It is copied before any shard goes on, which may then change what it gave.
        """
        if self._host.count == 1:
            return self._exchange(call, value, combine)
        copied: T = pickle.loads(self._exchange(call, value, lambda values: pickle.dumps(combine(values))))
        return copied
