"""A signal's deadline: how long a job lives on, and rollouts that are given up for it, by all ranks."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from ppo_and_friends.distributed import grace as graces
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.grace import Deadline, Grace, find_grace
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from tests.command_line import iterations, latest, run, spawn, toy

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1000"}


def test_what_the_user_says_and_what_slurm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graces, "_kill_wait", lambda: 25.0)
    monkeypatch.setattr(graces.time, "time", lambda: 940.0)
    assert not find_grace(None, {}).limited
    assert find_grace(7.0, SLURM).after(signal.SIGHUP) == 7
    slurm = find_grace(None, SLURM)
    after = [
        slurm.after(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    ]
    assert after == [25, 60, 60, None]
    assert find_grace(None, {"SLURM_JOB_ID": "7"}).after(signal.SIGUSR1) is None


def test_kill_wait_is_slurms_own_or_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "scontrol"
    program.write_text(
        "#!/bin/sh\necho 'KillOnBadExit           = 0'\necho 'KillWait                = 45 sec'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert graces._kill_wait() == 45
    program.unlink()
    program.symlink_to("/bin/false")
    assert graces._kill_wait() == 30


def test_a_deadline_is_near_when_saving_must_begin() -> None:
    now = 100.0
    deadline = Deadline(SoloCommunicator(), Grace(50.0), lambda: now)
    assert not deadline.near()
    assert deadline.signalled(signal.SIGTERM) == 50
    deadline.reserve = 3.0  # the update; 5 s are kept for saving: 150 - 3 - 5
    now = 142.0
    assert not deadline.near()
    now = 142.1
    assert deadline.near() and deadline.agreed_near()
    now = 120.0
    deadline.signalled(signal.SIGTERM)  # a second one changes nothing
    now = 142.1
    assert deadline.near()


def test_of_several_signals_the_one_that_leaves_least_counts() -> None:
    now = 0.0
    deadline = Deadline(SoloCommunicator(), Grace(None, kill_wait=30.0), lambda: now)
    assert deadline.signalled(signal.SIGHUP) is None and not deadline.near()
    now = 100.0
    assert deadline.signalled(signal.SIGTERM) == 30  # 5 s of them are kept for saving
    now = 124.9
    assert not deadline.near()
    now = 125.1
    assert deadline.near()


def test_a_later_signal_may_bring_a_deadline() -> None:
    """A terminal is closed, and then the job is cancelled."""
    with Interrupts(announce=lambda text: None, grace=Grace(None, kill_wait=0.0)) as interrupts:
        assert interrupts.deadline is not None
        signal.raise_signal(signal.SIGUSR1)
        assert not interrupts.deadline.near()
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.deadline.near() and interrupts.exit_code == 138


class Two(SoloCommunicator):
    """One of two ranks; the other one has something to say."""

    size = 2

    def __init__(self) -> None:
        self.told: list[int] = []
        self.news: list[int] = []

    def tell(self, number: int) -> None:
        self.told.append(number)

    def heard(self) -> int | None:
        return self.news.pop() if self.news else None


def test_a_rank_with_a_deadline_hears_of_a_nearer_one() -> None:
    now, comm = 10.0, Two()
    deadline = Deadline(comm, Grace(100.0), lambda: now)
    deadline.signalled(signal.SIGTERM)
    assert not deadline.near() and not deadline.near() and comm.told == [100_000]  # milliseconds, once
    comm.news = [20_000, 40_000]
    now = 11.0
    assert not deadline.near() and comm.news == [] and comm.told == [100_000]
    now = 27.1  # 11 + 20 - a fifth of 20
    assert deadline.near()


def test_one_ranks_deadline_is_everybodys() -> None:
    def program(comm: Communicator) -> bool:
        deadline = Deadline(comm, Grace(0.0))
        if comm.rank == 1:
            deadline.signalled(signal.SIGTERM)
        return deadline.agreed_near()

    assert run_threaded(3, program) == [True] * 3


def test_a_rollout_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The third of five iterations; what was before it is saved as if it had never begun."""
    slow = ("--set=environment.backend=gymnasium", "--with=tests.toys:SignalAt:iteration=3,number=15")
    done = run(*toy(tmp_path, *slow, "--grace=0"))
    assert done.status == 143
    assert done.out.count("The iteration under way was given up, to save in time.") == 1
    saved = latest(tmp_path)
    assert saved.state["iteration"] == 2 and iterations(tmp_path) == [1, 2]
    resumed = run(*toy(tmp_path, timesteps=600))
    assert resumed.status == 0 and iterations(tmp_path) == [1, 2, 3, 4, 5]


def test_nothing_is_given_up_where_there_is_time(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "--with=tests.toys:SignalAt:iteration=3,number=15", "--grace=60"))
    assert done.status == 143 and "given up" not in done.out
    assert latest(tmp_path).state["iteration"] == 3


def test_a_negative_grace_is_refused(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "--grace=-1"))
    assert (done.status, done.complaint) == (2, ["--grace: seconds, not -1."])


@pytest.mark.mpi
@pytest.mark.slow
def test_a_long_iteration_ends_in_time_on_all_ranks(mpirun_path: str, tmp_path: Path) -> None:
    """Rank 1 alone is told, in a rollout of 100 s."""
    given = toy(
        tmp_path,
        "--with=tests.toys:SignalAt:iteration=1,number=15,rank=1",
        "--set=environment.arguments.pause=0.1",
        "--set=ppo.rollout_timesteps=4000",
        "--grace=4",
        timesteps=10**6,
    )
    start = time.monotonic()
    done = spawn(*given, before=(mpirun_path, "-n", "2"), timeout=90)
    assert done.status == 143, done.err
    assert time.monotonic() - start < 60 and done.out.count("given up") == 1
