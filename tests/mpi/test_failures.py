"""The command line under real mpirun: one rank fails, and all end soon, said once, nothing lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.command_line import Done, iterations, latest, spawn, toy

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

SECONDS = 10.0
"""From a fault on one rank to the end of the job on all."""


def mpi(mpirun_path: str, size: int, arguments: list[str]) -> Done:
    return spawn(*arguments, before=(mpirun_path, "-n", str(size)), timeout=100)


@pytest.mark.parametrize(
    ("size", "fault", "said"),
    [
        # 4 environments on 2 ranks are 0-1 and 2-3, on 3 ranks 0-1, 2 and 3.
        (2, "nan_reward", "environment 2, step 45, reward: nan is not a finite number"),
        (3, "raise", "environment 3, step 45, step: ZeroDivisionError: the wheel came off"),
        (3, "nan_observation", "environment 3, step 45, observation[1]: nan is not a finite number"),
        (2, "shape", "environment 2, step 45, observation: shape [4], but its space has [3]"),
    ],
)
def test_an_environment_of_the_last_rank_breaks(
    size: int, fault: str, said: str, tmp_path: Path, mpirun_path: str
) -> None:
    witness = tmp_path / "witness"
    settings = {"fault": fault, "at": 45, "rank": size - 1, "witness": witness}
    given = [f"--set=environment.arguments.{name}={value}" for name, value in settings.items()]
    done = mpi(mpirun_path, size, toy(tmp_path, *given, "--set=checkpoint_seconds=0"))
    assert time.time() - float(witness.read_text()) < SECONDS
    # Which number mpirun makes of an abort beside ranks that it kills is its own affair (1, or 9).
    assert done.status != 0
    assert done.err.count(said) == 1 and f"rank {size - 1} (iteration 2): {said}" in done.err
    assert "Traceback" not in done.err
    assert (latest(tmp_path).state["iteration"], latest(tmp_path).notes) == (1, ())
    assert iterations(tmp_path) == [1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-e", "CartPol"], 2, "unknown environment 'CartPol'. Nearest: CartPole"),
        (["--num_timesteps", "x"], 2, "--num_timesteps: 'x' is not an integer"),
        (["-e", "CartPole", "--num_test_runs", "1"], 2, "Train one with: python main.py -e CartPole"),
        (["-e", "CartPole", "--with", "KLEarlyStop:target=high"], 2, "target='high' is not right"),
    ],
)
def test_a_mistake_is_said_once(
    arguments: list[str], status: int, said: str, tmp_path: Path, mpirun_path: str
) -> None:
    done = mpi(mpirun_path, 3, [*arguments, "--state_path", str(tmp_path / "state")])
    assert done.status == status
    assert done.err.count(said) == 1 and len(done.complaint) <= 2, done.err
    assert done.out == ""


def test_only_the_first_rank_speaks(tmp_path: Path, mpirun_path: str) -> None:
    done = mpi(mpirun_path, 2, toy(tmp_path, timesteps=300))
    assert (done.status, done.err) == (0, "")
    assert done.out.count("4 environments on 2 ranks, new run") == 1
    assert done.out.count("Trained tests.toys-Toy-v0") == 1
    again = mpi(mpirun_path, 2, toy(tmp_path, timesteps=300))
    assert (again.status, again.err) == (0, "") and again.out.count("trained for") == 1
    tested = mpi(mpirun_path, 2, toy(tmp_path, "--num_test_runs=2"))
    assert (tested.status, tested.err) == (0, "") and tested.out.count("Scores written to") == 1


def test_ranks_that_drift_apart_are_stopped(tmp_path: Path, mpirun_path: str) -> None:
    done = mpi(mpirun_path, 2, toy(tmp_path, "--with=tests.toys:Unequal", "--set=checkpoint_seconds=0"))
    # Which number mpirun makes of an abort beside ranks that it kills is its own affair (1, or 9).
    assert done.status != 0
    assert done.err.count("friends.Unequal.count on rank 1") == 1 and len(done.complaint) <= 2
    assert not (tmp_path / "tests.toys-Toy-v0" / "checkpoints").exists()
