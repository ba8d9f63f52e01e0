"""Detecting the MPI launcher, sharing cores, signals and failures, without MPI; tests/mpi runs real jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from ppo_and_friends.distributed import cores
from ppo_and_friends.distributed import interrupts as interrupts_module
from ppo_and_friends.distributed.communicator import Array, Communicator
from ppo_and_friends.distributed.cores import cpu_quota, threads_per_rank, usable_cores
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.launch import check_library, guard, mpi_launcher_rank, mpi_launcher_size
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import EnvironmentFault, UsageError
from tests.conftest import clean_environment


@pytest.mark.parametrize(
    ("variables", "rank", "size"),
    [
        ({}, 0, 1),
        ({"PMI_RANK": "3", "PMI_SIZE": "8"}, 3, 8),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, 1, 2),
        ({"PMIX_RANK": "5"}, 5, None),
        ({"PALS_RANKID": "4"}, 4, None),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "64"}, 2, 64),
        ({"SLURM_NTASKS": "4"}, 0, 4),
        ({"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1"}, 0, 1),
        # srun -n 1 in an allocation of 8, and Hydra's own two ranks in it
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, 0, 1),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "PMI_RANK": "1", "PMI_SIZE": "2"}, 1, 2),
        ({"PMI_RANK": "", "PMI_SIZE": "many"}, 0, 1),
    ],
)
def test_mpi_launcher_variables(variables: dict[str, str], rank: int, size: int | None) -> None:
    assert (mpi_launcher_rank(variables), mpi_launcher_size(variables)) == (rank, size)


def run_python(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_alone_mpi_is_not_imported() -> None:
    done = run_python(
        "import sys\nfrom ppo_and_friends.distributed.launch import make_communicator\n"
        "assert make_communicator().size == 1\n"
        "assert 'mpi4py' not in sys.modules and 'torch' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


MAKE = """
from ppo_and_friends.errors import PPOError
from ppo_and_friends.distributed.launch import make_communicator
try:
    make_communicator()
except PPOError as error:
    raise SystemExit(f"{error.exit_code} {error}")
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, ["SLURM_NTASKS=2", "srun --mpi=pmi2", "srun -n 1"]),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, ["OMPI_COMM_WORLD_SIZE=4", "mpirun"]),
    ],
)
def test_worlds_of_one_rank_each_are_refused(variables: dict[str, str], said: list[str]) -> None:
    done = run_python(MAKE, **variables)
    assert done.returncode == 1 and done.stderr.startswith("2 "), done.stderr
    assert all(text in done.stderr for text in said) and len(done.stderr.strip().splitlines()) == 2


MPICH = "MPICH Version:      5.0.2\nMPICH configure:    --with-pm=hydra:gforker"
UNDER_PMIX = {"PMIX_RANK": "0", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("library", "variables", "refused"),
    [
        (MPICH, UNDER_PMIX, True),
        (MPICH, {}, False),
        (MPICH, UNDER_PMIX | {"PMI_RANK": "0"}, False),
        (MPICH + " --with-pmix=/usr", UNDER_PMIX, False),
        ("Open MPI v4.1.4, package: Debian OpenMPI", UNDER_PMIX, False),
    ],
)
def test_mpich_without_pmix_is_refused_under_pmix(
    library: str, variables: dict[str, str], refused: bool
) -> None:
    # Otherwise MPICH ends the program in MPI_Init: "Runtime environment uses unsupported PMI version PMIx".
    with pytest.raises(UsageError, match=r"MPICH 5\.0\.2 isn't built") if refused else nullcontext():
        check_library(library, variables)


@pytest.mark.mpi
def test_the_mpich_of_this_installation_says_with_what_it_was_built() -> None:
    done = run_python(MAKE, **UNDER_PMIX)
    assert done.stderr.startswith("2 ") and "srun --mpi=pmi2" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "missing", ["ImportError('No module named mpi4py')", "RuntimeError('cannot load MPI library\\\\nmore')"]
)
def test_missing_mpi_under_an_mpi_launcher_is_explained(missing: str) -> None:
    script = f"""
import builtins
real = builtins.__import__
def broken(name, *arguments, **named):
    if name == "mpi4py":
        raise {missing}
    return real(name, *arguments, **named)
builtins.__import__ = broken
""".replace("\\\\n", "\\n")
    done = run_python(script + MAKE, PMI_RANK="0", PMI_SIZE="2")
    assert done.stderr.startswith("2 ") and "ppo-and-friends[mpi]" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({}, "0::/", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        (
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "400000 100000"},
            "0::/a/b",
            2.0,
        ),
        ({"cpu.max": "300000 100000"}, "0::/outside/of/the/container", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", None),
        ({"cpu/j/cpu.cfs_quota_us": "50000", "cpu/j/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/j", 0.5),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], membership: str, quota: float | None) -> None:
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "self").write_text(membership + "\n")
    assert cpu_quota(tmp_path / "fs", tmp_path / "self") == quota


@pytest.mark.parametrize(
    ("affinities", "quota", "expected"),
    [
        ([range(8)] * 2, None, [4, 4]),  # shared cores are divided
        ([range(8)] * 3, None, [2, 2, 2]),
        ([range(0, 4), range(4, 8)], None, [4, 4]),  # bound by the MPI launcher: all of its own
        ([range(2)] * 5, None, [1] * 5),  # never none
        ([range(8)] * 2, 3.0, [1, 1]),
        ([range(8)], 0.5, [1]),
    ],
)
def test_threads_per_rank(
    monkeypatch: pytest.MonkeyPatch, affinities: list[range], quota: float | None, expected: list[int]
) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    monkeypatch.setattr(
        cores,
        "affinity",
        lambda: frozenset(affinities[int(threading.current_thread().name.removeprefix("rank "))]),
    )
    assert run_threaded(len(affinities), threads_per_rank) == expected


def test_ranks_on_other_nodes_do_not_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    monkeypatch.setattr(cores, "affinity", lambda: frozenset(range(6)))
    monkeypatch.setattr(
        cores.socket, "gethostname", lambda: "a" if threading.current_thread().name == "rank 0" else "b"
    )
    assert run_threaded(3, threads_per_rank) == [6, 3, 3]


def test_usable_cores() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("no such name"), 2, "no such name\n"),
        (EnvironmentFault("NaN in row 3"), 1, "NaN in row 3\n"),
        (SystemExit(5), 5, ""),
        (SystemExit("a word"), 1, "a word\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_guard_alone(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    with pytest.raises(SystemExit) as ended, guard(SoloCommunicator(), lambda: "iteration 1"):
        raise error
    assert ended.value.code == status and capsys.readouterr().err == said


def large_array() -> None:
    np.zeros(2**57)  # 8 bytes each: 1 EiB


def large_tensor() -> None:
    torch.zeros(2**50, dtype=torch.float64)  # 8 PiB


def large_list() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("work", "amount"),
    [(large_array, ", asked for 1.00 EiB"), (large_tensor, ", asked for 8.39e+06 GiB"), (large_list, "")],
)
def test_memory_that_runs_out_is_no_traceback(
    work: Callable[[], None], amount: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, guard(SoloCommunicator()):
        work()
    assert end.value.code == 1
    what, advice = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"Out of memory in test_launch\.py:\d+{re.escape(amount)}\.", what)
    assert advice.startswith("Fewer environments (--num_envs)")


def test_guard_prints_a_traceback_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, guard(SoloCommunicator(), lambda: "iteration 9"):
        {}["missing"]
    text = capsys.readouterr().err
    assert ended.value.code == 1 and text.startswith("at iteration 9:\nTraceback")
    assert text.count("KeyError: 'missing'") == 1 and "in guard" not in text


def test_guard_with_ranks_that_fail_alike_and_apart(capsys: pytest.CaptureFixture[str]) -> None:
    def alike(comm: Communicator) -> None:
        with guard(comm):
            raise UsageError("the same")

    with pytest.raises(SystemExit):
        run_threaded(3, alike)
    assert capsys.readouterr().err == "the same\n"

    def apart(comm: Communicator) -> None:
        with guard(comm):
            raise UsageError(f"of {comm.rank}")

    with pytest.raises(SystemExit):
        run_threaded(2, apart)
    assert capsys.readouterr().err == "rank 0: of 0\nrank 1: of 1\n"


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGHUP, 129),
        (signal.SIGINT, 130),
        (signal.SIGUSR1, 138),
        (signal.SIGUSR2, 140),
        (signal.SIGTERM, 143),
    ],
)
def test_a_signal_asks_once(number: signal.Signals, status: int) -> None:
    said: list[str] = []
    before = signal.signal(number, signal.SIG_DFL)  # whatever the tests were started by
    with Interrupts(announce=said.append) as interrupts:
        assert not interrupts.requested and not interrupts.agreed() and interrupts.exit_code == 0
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # a later one changes nothing
        assert interrupts.requested and interrupts.agreed() and interrupts.exit_code == status
    assert signal.signal(number, before) == signal.SIG_DFL
    assert len(said) == 1 and number.name in said[0]


def test_a_run_outlives_its_terminal_where_that_was_asked_for() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_rank_asked_means_all() -> None:
    said: list[str] = []

    def fn(comm: Communicator) -> tuple[bool, int]:
        with Interrupts(comm, said.append) as interrupts:
            if comm.rank == 1:
                interrupts.signal = signal.SIGTERM
            return interrupts.agreed(), interrupts.exit_code

    assert run_threaded(3, fn) == [(True, 143)] * 3
    assert said == ["SIGTERM on another rank: saving."]


class Told(SoloCommunicator):
    """The second of two ranks, whose first rank has a signal before it has."""

    rank, size = 1, 2
    code = 0

    def max_(self, array: Array) -> None:
        array[:] = np.maximum(array, self.code)


@pytest.mark.parametrize("agreements", [1, 2])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_that_arrives_after_the_agreement_isnt_a_second_one(
    monkeypatch: pytest.MonkeyPatch, first: signal.Signals, agreements: int
) -> None:
    """Else a rank that gets it some milliseconds after the others would end all, amid the saving."""
    left: list[bool] = []
    monkeypatch.setattr(Interrupts, "_leave", lambda self: left.append(True))
    monkeypatch.setattr(interrupts_module, "ECHO_SECONDS", 0.0)
    comm = Told()
    with Interrupts(comm) as interrupts:
        comm.code = 128 + first
        for _ in range(agreements):  # each shard of a process asks, and each policy of several
            assert interrupts.agreed() and interrupts.exit_code == comm.code
        signal.raise_signal(signal.SIGINT)
        # After a SIGTERM it is somebody who doesn't want to wait.
        assert len(left) == (first == signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert len(left) == 1 + (first == signal.SIGTERM)


CHILD = """
import multiprocessing, os, signal, sys, time
from ppo_and_friends.distributed.interrupts import Interrupts

def work():
    time.sleep(60)

with Interrupts() as interrupts:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.3)
    assert child.is_alive()
    child.terminate()
    child.join(10)
    assert child.exitcode == -signal.SIGTERM, child.exitcode
    print("ready", flush=True)
    while True:
        time.sleep(0.02)
"""


def test_twice_leaves_at_once_and_children_are_spared() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    finally:
        process.kill()
        _, err = process.communicate()
    assert err.count("Press Ctrl-C again") == 1
