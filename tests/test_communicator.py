"""Collectives against NumPy, alone and on threads; tests/mpi runs the same checks under mpirun."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import Aborted, RanksOutOfStepError, run_threaded
from tests.collectives import check


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_collectives_on_threads(size: int) -> None:
    run_threaded(size, check)


def test_collectives_alone() -> None:
    check(SoloCommunicator())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=5),
)
def test_threaded_sum_runs_in_rank_order(size: int, values: list[float]) -> None:
    parts = [np.array(values, dtype=np.float32) * np.float32(1.1**rank) for rank in range(size)]

    def fn(comm: Communicator) -> bytes:
        own = parts[comm.rank].copy()
        comm.sum_(own)
        return own.tobytes()

    expected = parts[0].copy()
    for part in parts[1:]:
        expected = expected + part
    assert run_threaded(size, fn) == [expected.tobytes()] * size


@pytest.mark.parametrize("comm", [SoloCommunicator()])
def test_what_cannot_be_reduced_in_place_is_refused(comm: Communicator) -> None:
    with pytest.raises(TypeError, match="bool"):
        comm.sum_(np.array([True]))
    with pytest.raises(TypeError, match="list"):
        comm.sum_([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        comm.max_(np.zeros((3, 4))[:, 1])
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        comm.broadcast_(frozen)


def test_an_exception_ends_the_other_ranks_at_once_and_is_raised() -> None:
    reached = []

    def fn(comm: Communicator) -> None:
        comm.barrier()
        if comm.rank == 1:
            raise KeyError("mine")
        comm.sum_(np.zeros(3))
        reached.append(comm.rank)

    start = time.monotonic()
    with pytest.raises(KeyError, match="mine"):
        run_threaded(3, fn)
    assert time.monotonic() - start < 5 and not reached
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rank ")]


def test_different_collectives_are_noticed() -> None:
    def fn(comm: Communicator) -> None:
        if comm.rank:
            comm.sum_(np.zeros(3))
        else:
            comm.sum_(np.zeros(4))

    with pytest.raises(RanksOutOfStepError, match="different collectives"):
        run_threaded(2, fn)


def test_a_rank_that_leaves_early_is_noticed() -> None:
    def fn(comm: Communicator) -> None:
        if comm.rank:
            comm.barrier()

    with pytest.raises(RanksOutOfStepError):
        run_threaded(2, fn, timeout=0.2)


def test_meet_notices_a_missing_rank() -> None:
    assert run_threaded(2, lambda comm: comm.rank == 1 or comm.meet(0.1)) == [False, True]


def test_abort_ends_all_ranks() -> None:
    def fn(comm: Communicator) -> None:
        if comm.rank == 2:
            comm.abort(7)
        comm.barrier()

    with pytest.raises(Aborted) as caught:
        run_threaded(3, fn)
    assert caught.value.exit_code == 7
    with pytest.raises(SystemExit) as ended:
        SoloCommunicator().abort(3)
    assert ended.value.code == 3
