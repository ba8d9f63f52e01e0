"""Where an iteration's time goes: every moment counts once, and collectives count whoever makes them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.distributed.timed_communicator import TimedCommunicator
from ppo_and_friends.friends import Friend
from ppo_and_friends.ppo import stopwatch as stopwatch_module
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.settings.experiment import friend
from tests.collectives import check
from tests.friends.runs import build, experiment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time that passes when it is told to."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    found = Clock()
    monkeypatch.setattr(stopwatch_module, "time", found)
    return found


def test_every_moment_counts_for_the_innermost_lap_alone(clock: Any) -> None:
    watch = Stopwatch(("update", "communication", "evaluation"))
    with watch.measure("communication"):  # outside of any other
        clock.now += 1.0
    with watch.measure("update"):
        clock.now += 2.0
        with watch.measure("communication"):
            clock.now += 4.0
            with watch.measure("communication"):  # a collective that is made of another
                clock.now += 8.0
        clock.now += 16.0
        with pytest.raises(KeyError), watch.measure("evaluation"):
            clock.now += 32.0
            raise KeyError
        clock.now += 64.0
    clock.now += 128.0
    assert watch.take() == {"update": 82.0, "communication": 13.0, "evaluation": 32.0}
    assert set(watch.take().values()) == {0.0}


@pytest.mark.parametrize("size", [1, 3])
def test_the_timed_communicator_does_what_the_inner_one_does(size: int) -> None:
    def work(communicator: Any) -> Any:
        watch = Stopwatch()
        check(TimedCommunicator(communicator, watch.measure("communication")))
        return watch.take()

    assert all(times["communication"] > 0.0 for times in run_threaded(size, work))


def test_friends_collectives_have_a_name_and_evaluations_are_no_training() -> None:
    class Slow(SoloCommunicator):
        def barrier(self) -> None:
            time.sleep(0.02)

    class Waits(Friend):
        def after_rollout(self, rollout: Any) -> None:
            self.context.communicator.barrier()

        def after_update(self, stats: Any) -> None:
            with self.context.stopwatch.measure("evaluation"):
                time.sleep(0.03)
                self.context.communicator.barrier()

    trainer = build(experiment((friend(Waits),)), Slow())
    with closing(trainer.collector.envs):
        trainer.stopwatch.take()
        start = time.perf_counter()
        trainer.train_iteration()
        whole = time.perf_counter() - start
    times = trainer.stopwatch.take()
    assert times["communication"] >= 0.04 and 0.03 <= times["evaluation"] < whole - 0.04
    assert sum(times.values()) <= whole
