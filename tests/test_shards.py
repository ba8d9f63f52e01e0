"""Shards: a fixed number of ranks that any number of processes hosts, with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from greenlet import greenlet

from ppo_and_friends.distributed import shards as shards_module
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.fixed_tree import subtrees, tree_sum_
from ppo_and_friends.distributed.shards import HostedShards, ShardFailed, shards_of
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import UsageError
from tests.collectives import check

T = TypeVar("T")


def on_shards(shards: int, processes: int, task: Callable[[Communicator], T]) -> list[T]:
    """What the task returns on every shard, in order; "processes" are threads here."""

    def process(communicator: Communicator) -> list[T]:
        hosted = HostedShards(communicator, shards)
        return hosted.run(lambda local: task(hosted.communicators[local]))

    return [each for part in run_threaded(processes, process) for each in part]


def test_shards_are_divided_over_processes() -> None:
    assert [shards_of(process, 3, 8) for process in range(3)] == [(0, 3), (3, 6), (6, 8)]


def test_subtrees() -> None:
    """Over 8 numbers a part is covered by the largest nodes that lie in it."""
    assert list(subtrees((0, 3), 8)) == [(0, 2), (2, 3)]
    assert list(subtrees((3, 6), 8)) == [(3, 4), (4, 6)]
    assert list(subtrees((6, 8), 8)) == [(6, 8)]
    assert list(subtrees((0, 8), 8)) == [(0, 8)]
    # Over 5: (0 1 2) (3 4), and the first of them is (0 1) 2.
    assert list(subtrees((1, 5), 5)) == [(1, 2), (2, 3), (3, 5)]


def test_the_order_of_a_tree_sum() -> None:
    """(1e8 + 1) + (-1e8 + 1) in single precision is 0, as each 1 is lost; in other orders it is 2 or 1."""
    terms = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8, 1.0)]
    known = {(k, k + 1): term for k, term in enumerate(terms)}
    assert tree_sum_((0, 4), known.get) == 0.0


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_collectives(processes: int) -> None:
    """As any other communicator's; `check` compares each with what NumPy gives."""
    on_shards(5, processes, check)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_have_the_same_bits_on_any_number_of_processes(size: int, dtype: Any) -> None:
    def task(communicator: Communicator) -> bytes:
        array = np.random.default_rng(communicator.rank).standard_normal((size, 2)).astype(dtype)
        communicator.sum_(array)
        return array.tobytes()

    found = {processes: set(on_shards(8, processes, task)) for processes in range(1, 9)}
    assert all(len(each) == 1 for each in found.values())
    assert len(set.union(*found.values())) == 1


def test_shards_share_nothing_that_can_be_changed() -> None:
    def task(communicator: Communicator) -> tuple[Any, Any]:
        got, gathered = communicator.broadcast(["first"]), communicator.gather([communicator.rank])
        got.append(communicator.rank)
        gathered[0].append(communicator.rank)
        communicator.barrier()
        return got, gathered[0]

    assert on_shards(3, 1, task) == [(["first", k], [0, k]) for k in range(3)]


def test_what_a_shard_changes_after_a_collective_is_seen_by_none() -> None:
    """As with processes, to which it was sent by then."""

    def task(communicator: Communicator) -> tuple[Any, Any]:
        own = [communicator.rank]
        gathered = communicator.gather(own)
        own.append(100)
        communicator.barrier()
        first = communicator.broadcast(own)
        own.append(200)
        return gathered, first

    assert on_shards(3, 1, task) == [([[0], [1], [2]], [0, 100])] * 3


def test_a_maximum_of_zeros_has_the_same_sign_on_any_number_of_processes() -> None:
    def task(communicator: Communicator) -> bytes:
        array = np.array([(-0.0, 0.0)[communicator.rank % 2], (0.0, -0.0)[communicator.rank % 2], -0.0])
        communicator.max_(array)
        number = np.array(float(communicator.rank))  # without dimensions
        communicator.max_(number)
        assert number == 3.0
        return array.tobytes()

    zeros = np.zeros(3).tobytes()
    assert {each for processes in (1, 2, 4) for each in on_shards(4, processes, task)} == {zeros}


def test_only_one_shard_runs_at_a_time() -> None:
    running, most = [0], [0]

    def task(communicator: Communicator) -> None:
        for _ in range(20):
            running[0] += 1
            most[0] = max(most[0], running[0])
            time.sleep(1e-4)
            running[0] -= 1
            communicator.barrier()

    on_shards(4, 1, task)
    assert most[0] == 1


@pytest.mark.parametrize("failing", [0, 1, 3])
@pytest.mark.parametrize("after", [0, 2])
def test_a_shard_that_fails_ends_the_others_and_the_next_task_runs(failing: int, after: int) -> None:
    hosted = HostedShards(SoloCommunicator(), 4)
    ended = []

    def task(local: int) -> None:
        try:
            for k in range(4):
                if (local, k) == (failing, after):
                    raise KeyError(local)
                hosted.communicators[local].barrier()
        finally:
            ended.append(local)

    with pytest.raises(KeyError, match=str(failing)):
        hosted.run(task)
    # Those that had begun are at an end; those that had not don't begin.
    assert set(ended) == (set(range(failing + 1)) if after == 0 else set(range(4)))
    assert hosted.run(lambda local: hosted.communicators[local].gather(local)) == [[0, 1, 2, 3]] * 4


def test_an_error_of_all_is_raised_once() -> None:
    def task(communicator: Communicator) -> None:
        communicator.barrier()
        raise ValueError(communicator.rank)

    with pytest.raises(ValueError, match="0"):
        on_shards(3, 1, task)


def test_different_collectives_are_noticed() -> None:
    def task(communicator: Communicator) -> None:
        if communicator.rank == 1:
            communicator.gather(1)
        else:
            communicator.barrier()

    with pytest.raises(ShardFailed, match="gather"):
        on_shards(3, 1, task)


@pytest.mark.parametrize("fewer", [0, 1])
def test_a_shard_that_ends_early_is_noticed(fewer: int) -> None:
    def task(communicator: Communicator) -> None:
        for _ in range(2 if communicator.rank == fewer else 3):
            communicator.barrier()

    with pytest.raises(ShardFailed):
        on_shards(2, 1, task)


@pytest.mark.parametrize("interrupted", [0, 1, 2])
def test_an_interrupt_ends_all_shards(interrupted: int) -> None:
    """Python raises KeyboardInterrupt wherever the main thread is: in any shard's turn."""
    hosted = HostedShards(SoloCommunicator(), 3)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    turns = [0] * 3

    def task(local: int) -> None:
        for k in range(5):
            turns[local] += 1
            if (local, k) == (interrupted, 2):
                os.kill(os.getpid(), signal.SIGUSR1)
            hosted.communicators[local].barrier()

    try:
        with pytest.raises(KeyboardInterrupt):
            hosted.run(task)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert max(turns) == 3
    assert hosted.run(lambda local: local) == [0, 1, 2]


def test_an_interrupt_between_two_turns_ends_all_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = HostedShards(SoloCommunicator(), 3)
    turns, ended = [0], [0]

    class Interrupted(greenlet):
        def switch(self, *values: Any) -> Any:
            turns[0] += 1
            if turns[0] == 5:
                raise KeyboardInterrupt
            return super().switch(*values)

    monkeypatch.setattr(shards_module, "greenlet", Interrupted)

    def task(local: int) -> None:
        try:
            for _ in range(5):
                hosted.communicators[local].barrier()
        finally:
            ended[0] += 1

    with pytest.raises(KeyboardInterrupt):
        hosted.run(task)
    assert ended == [3]
    monkeypatch.undo()
    assert hosted.run(lambda local: local) == [0, 1, 2]


def test_interrupts_at_any_moment_leave_no_shard_half_way() -> None:
    hosted, ended, begun = HostedShards(SoloCommunicator(), 3), [0], [0]

    def task(local: int) -> None:
        begun[0] += 1
        last = time.monotonic() + 10.0
        try:
            # Python loses an exception that comes while it frees something: then the next interrupt counts.
            while time.monotonic() < last:
                hosted.communicators[local].barrier()
        finally:
            ended[0] += 1

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for k in range(200):
            signal.setitimer(signal.ITIMER_REAL, 5e-4 + 7e-6 * k, 2.0)
            with pytest.raises(KeyboardInterrupt):
                hosted.run(task)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            assert ended == begun
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_what_a_shard_sets_for_itself_is_its_own() -> None:
    """PyTorch's modes belong to a thread, NumPy's handling of errors to a context; shards share a thread."""

    def modes() -> tuple[bool, bool, str]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), np.geterr()["over"]

    def task(communicator: Communicator) -> list[tuple[bool, bool, str]]:
        found = [modes()]
        with torch.no_grad():
            communicator.barrier()
            found.append(modes())
            with torch.inference_mode(), np.errstate(over="raise"):
                communicator.barrier()
                found.append(modes())
            communicator.barrier()
            found.append(modes())
        return [*found, modes()]

    with np.errstate(over="ignore"):
        usual = (True, False, "ignore")
        expected = [usual, (False, False, "ignore"), (False, True, "raise"), (False, False, "ignore"), usual]
        hosted = HostedShards(SoloCommunicator(), 3)
        assert hosted.run(lambda local: task(hosted.communicators[local])) == [expected] * 3
        assert modes() == usual


def test_programs_that_a_shard_starts_get_signals() -> None:
    """An environment ends its simulator by SIGTERM, mostly."""

    def task(communicator: Communicator) -> int:
        program = subprocess.Popen(["sleep", "20"])
        program.terminate()
        return program.wait(timeout=5.0)

    assert on_shards(2, 1, task) == [-signal.SIGTERM] * 2


def test_more_processes_than_shards_are_refused() -> None:
    with pytest.raises(UsageError, match=r"deterministic_shards=2 .* 2 ranks or fewer, not by 3"):
        on_shards(2, 3, lambda communicator: None)
