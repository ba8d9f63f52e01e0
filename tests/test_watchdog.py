"""What stands still is ended, and says where; what is slow, suspended or looked at isn't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ppo_and_friends.distributed import watchdog
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.local_launcher import find_launcher
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.distributed.shards import HostedShards
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.distributed.watchdog import Watchdog
from tests.command_line import latest, toy
from tests.conftest import ROOT, clean_environment


class Env:
    """Says where it is, as environments do."""

    def whereabouts(self) -> str:
        return "environment 3, step 45"

    def step(self, until: Callable[[], object]) -> None:
        until()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LAST_WORDS", 0.05)
    monkeypatch.setattr(watchdog, "START_SECONDS", 0.0)


def test_says_where_it_stands_then_ends() -> None:
    said: list[str] = []
    ended = threading.Event()
    with Watchdog(SoloCommunicator(), 0.2, lambda: "iteration 2", said.append, ended.set):
        Env().step(lambda: ended.wait(20))
    assert ended.is_set() and len(said) == 1
    first, *frames = said[0].splitlines()
    assert first == ("Nothing was done for 0 s (stall_timeout). iteration 2: environment 3, step 45")
    assert 1 <= len(frames) <= watchdog.FRAMES and any("in step: until()" in line for line in frames)


def test_a_rank_that_waits_says_that() -> None:
    said: dict[int, str] = {}
    ended = threading.Event()

    def program(comm: Communicator) -> None:
        with Watchdog(
            comm, 0.2, lambda: "iteration 1", lambda text: said.update({comm.rank: text}), ended.set
        ):
            if comm.rank == 1:
                Env().step(lambda: ended.wait(20))
            comm.barrier()

    run_threaded(2, program)
    assert "rank 0, iteration 1: waiting for the other ranks" in said[0]
    assert "rank 1, iteration 1: environment 3, step 45" in said[1]


def test_says_where_the_shard_stands_whose_turn_it_is() -> None:
    said: list[str] = []
    ended = threading.Event()
    hosted = HostedShards(SoloCommunicator(), 3)

    def task(local: int) -> None:
        if local == 1:
            Env().step(lambda: ended.wait(20))
        hosted.communicators[local].barrier()

    with Watchdog(SoloCommunicator(), 0.2, lambda: "iteration 2", said.append, ended.set):
        hosted.run(task)
    assert said[0].startswith(
        "Nothing was done for 0 s (stall_timeout). iteration 2: environment 3, step 45\n"
    )


@pytest.mark.parametrize("case", ["beats", "off", "over", "late"])
def test_no_false_alarm(case: str) -> None:
    ended = threading.Event()
    said = threading.Event()
    # What was done "in the last moment" is done while the report is being written.
    words = (lambda text: (said.set(), PULSE.beat())) if case == "late" else (lambda text: said.set())  # type: ignore[func-returns-value]
    with Watchdog(SoloCommunicator(), 0.0 if case == "off" else 0.2, lambda: "", words, ended.set):
        for _ in range(1 if case == "over" else 12):
            time.sleep(0.05)
            if case == "beats":
                PULSE.beat()
    time.sleep(0.3 if case == "over" else 0.0)
    assert not ended.is_set() and said.is_set() == (case == "late")


def test_a_debugger_may_take_its_time() -> None:
    said: list[str] = []
    code = compile("wait(0.6)", "/somewhere/pdb.py", "exec")
    with Watchdog(SoloCommunicator(), 0.2, lambda: "", said.append, lambda: None):
        exec(code, {"wait": time.sleep})
    assert said == []


SUSPENDED = """
import os, signal, time
from ppo_and_friends.distributed import watchdog
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator

watchdog.START_SECONDS = 0.0
with watchdog.Watchdog(SoloCommunicator(), 1.0, str):
    PULSE.beat()
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # no sign of life since before it was stopped
"""


def test_a_suspended_and_continued_process_isnt_a_standing_one() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUSPENDED],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            os.waitpid(process.pid, os.WUNTRACED)
            time.sleep(1.5)  # longer than its patience
            process.send_signal(signal.SIGCONT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")


def test_a_file_system_that_blocks(tmp_path: Path) -> None:
    """A pipe that nobody reads from can't be opened: the call doesn't return, as with a lost server."""
    path, said = tmp_path / "pipe", list[str]()
    os.mkfifo(path)

    def end() -> None:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # lets the other side go on

    with Watchdog(SoloCommunicator(), 0.2, lambda: "iteration 2", said.append, end):
        path.write_bytes(b"")
    assert len(said) == 1 and "iteration 2: stands here" in said[0] and "in write_bytes" in said[0]


LOCKED = """
import re
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.watchdog import Watchdog

def step():
    re.match("(a+)+$", "a" * 60 + "b")  # 2 ** 60 tries, in C, with the interpreter's lock

with Watchdog(SoloCommunicator(), 0.5, str):
    step()
"""


def test_code_that_keeps_the_interpreters_lock_is_ended_by_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCKED], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGPROF and "in step" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["python", "hydra_pmi_proxy", "mpirun"], (3, "mpirun")),
        (["python", "mpiexec"], (2, "mpiexec")),
        (["python", "hydra_pmi_proxy", "sshd"], None),  # of another node
        (["python", "bash", "mpirun"], None),  # which started a shell, not this rank
        (["python", "slurmstepd"], None),
    ],
)
def test_the_launcher_of_a_rank(tmp_path: Path, names: list[str], found: tuple[int, str] | None) -> None:
    """Processes 1, 2, 3, ... each of which is the child of the next."""
    for process, name in enumerate(names, 1):
        (tmp_path / str(process)).mkdir()
        (tmp_path / str(process) / "comm").write_text(name[:15] + "\n")
        (tmp_path / str(process) / "stat").write_text(f"{process} ({name[:15]}) S {process + 1} 0 0\n")
    assert find_launcher(1, tmp_path) == found


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["step", "stopped"])
def test_all_ranks_and_processes_end(mpirun_path: str, tmp_path: Path, fault: str) -> None:
    """Rank 1's environment never returns, in a process of its own; or the rank itself is stopped."""
    witness = tmp_path / "witness"
    settings = {"fault": "hang" if fault == "step" else "stop_main", "at": 45, "rank": 1, "witness": witness}
    given = [f"--set=environment.arguments.{name}={value}" for name, value in settings.items()]
    backend = "async" if fault == "step" else "gymnasium"
    given += ["--stall_timeout=2", "--set=checkpoint_seconds=0", f"--set=environment.backend={backend}"]
    job = subprocess.Popen(
        [mpirun_path, "-n", "2", sys.executable, str(ROOT / "main.py"), *toy(tmp_path, *given)],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = job.communicate(timeout=100)  # which ends when nobody holds the pipe any more
    assert job.returncode != 0
    assert "rank 0, iteration 2: waiting for the other ranks" in err, err
    assert fault == "stopped" or "rank 1, iteration 2: environment 2, 3, step 45" in err, err
    assert latest(tmp_path).state["iteration"] == 1
    assert time.time() - float(witness.read_text()) < 60
