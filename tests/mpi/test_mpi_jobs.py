"""Real MPI jobs: the collectives, and that nothing hangs whatever a rank does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
RunMPI = Callable[..., "subprocess.CompletedProcess[str]"]
TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("size", [2, 3])
def test_collectives(run_mpi: RunMPI, size: int) -> None:
    done = run_mpi(
        size,
        f"""
from ppo_and_friends.distributed.launch import make_communicator
from tests.collectives import check
comm = make_communicator()
assert comm.size == {size}
check(comm)
print("checked", flush=True)
""",
    )
    assert (done.returncode, done.stdout.count("checked")) == (0, size), done.stderr


FAILING = """
import sys
import numpy as np
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.distributed.launch import guard, make_communicator

comm = make_communicator()
with guard(comm, lambda: "iteration 3"):
    array = np.ones(4)
    for i in range(1_000_000_000):
        if i == 50:
            ACTION
        comm.sum_(array)
        array /= comm.size
"""


@pytest.mark.parametrize(
    ("size", "action", "status", "said"),
    [
        (
            2,
            "if comm.rank == 1: raise ValueError('boom')",
            1,
            ["rank 1: at iteration 3:", "\nValueError: boom"],
        ),
        (3, "if comm.rank == 2: raise EnvironmentFault('NaN')", 1, ["rank 2 (iteration 3): NaN"]),
        (3, "if comm.rank == 1: raise UsageError('bad')", 2, ["rank 1 (iteration 3): bad"]),
        (2, "if comm.rank == 0: sys.exit(130)", 130, []),
        (3, "raise UsageError('no such name')", 2, ["no such name"]),
        (
            3,
            "raise EnvironmentFault(f'row {comm.rank}')",
            1,
            [f"rank {r} (iteration 3): row {r}" for r in range(3)],
        ),
        (2, "1 / 0", 1, ["at iteration 3:", "ZeroDivisionError"]),
        (2, "sys.exit(130)", 130, []),
        (2, "sys.exit(0)", 0, []),
    ],
)
def test_a_failure_ends_the_job_with_its_status(
    run_mpi: RunMPI, size: int, action: str, status: int, said: list[str]
) -> None:
    start = time.monotonic()
    done = run_mpi(size, FAILING.replace("ACTION", action), timeout=20)
    assert time.monotonic() - start < 10
    # Of ranks that it has to kill, Hydra mixes the status of the kill into its own.
    alone = action.startswith("if")
    assert done.returncode != 0 if alone else done.returncode == status, done.stderr
    for text in said:
        assert done.stderr.count(text) == 1, done.stderr
    if not alone:  # all ranks alike: MPI itself has nothing to complain about
        assert "Abort" not in done.stderr and "BAD TERMINATION" not in done.stdout + done.stderr
        assert done.stdout == ""


def test_a_killed_rank_ends_the_job(run_mpi: RunMPI) -> None:
    start = time.monotonic()
    action = "if comm.rank == 1: import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_mpi(2, FAILING.replace("ACTION", action), timeout=20).returncode != 0
    assert time.monotonic() - start < 10


def test_ranks_that_differ_are_named_on_all_ranks(run_mpi: RunMPI) -> None:
    done = run_mpi(
        3,
        """
import numpy as np
from ppo_and_friends.errors import ReplicationError
from ppo_and_friends.distributed.launch import make_communicator
from ppo_and_friends.distributed.replication import assert_replicated
comm = make_communicator()
good = np.arange(5, dtype=np.float32)
assert_replicated(comm, {"a": good, "b": good})
try:
    assert_replicated(comm, {"a": good, "b": good * (1 + 1e-7 * (comm.rank == 2))})
except ReplicationError as error:
    print(str(error).splitlines()[0], flush=True)
""",
    )
    assert done.returncode == 0, done.stderr
    # Counted, since the lines of several ranks may come out mixed.
    assert done.stdout.count("The ranks have diverged: b on rank 2 differ from rank 0's.") == 3


LOCKING = """
import sys
from ppo_and_friends.distributed.launch import guard, make_communicator
from ppo_and_friends.runs.run_folder import RunFolder
comm = make_communicator()
with guard(comm), RunFolder(sys.argv[1]).lock(comm):
    print("locked", flush=True)
"""


def test_a_locked_folder_is_refused_on_all_ranks(run_mpi: RunMPI, tmp_path: Path) -> None:
    from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
    from ppo_and_friends.runs.run_folder import RunFolder

    script = tmp_path / "locking.py"
    script.write_text(LOCKING)
    arguments = [str(script), str(tmp_path / "run")]
    with RunFolder(tmp_path / "run").lock(SoloCommunicator()):
        done = run_mpi(2, arguments)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.count(f"process {os.getpid()} on ") == 1
    done = run_mpi(2, arguments)
    assert (done.returncode, done.stdout.count("locked")) == (0, 2), done.stderr


STOPPING = """
import sys, time
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.launch import guard, make_communicator
comm = make_communicator()
with guard(comm), Interrupts(comm) as interrupts:
    print("ready", flush=True)
    while not interrupts.agreed():
        time.sleep(0.02)
    comm.barrier()
    if comm.is_main:
        print("saved", flush=True)
    sys.exit(interrupts.exit_code)
"""


@pytest.mark.parametrize(("how", "status"), [("terminal", 130), ("INT", 130), ("TERM", 143), ("USR1", 138)])
def test_a_signal_to_mpirun_saves_and_gives_its_status(
    mpirun_path: str, tmp_path: Path, how: str, status: int
) -> None:
    """On a terminal of its own, where Ctrl-C is a character, as for a user."""
    script = tmp_path / "stopping.py"
    script.write_text(STOPPING)
    environment = dict(os.environ) | {"PYTHONPATH": str(TESTS.parent)}
    process, terminal = pty.fork()
    if process == 0:
        os.execve(mpirun_path, [mpirun_path, "-n", "2", sys.executable, str(script)], environment)
    output, sent, start = b"", False, time.monotonic()
    try:
        while time.monotonic() - start < 20:
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    output += os.read(terminal, 4096)
                except OSError:  # the terminal's other side was closed
                    break
            if not sent and output.count(b"ready") == 2:
                sent = True
                if how == "terminal":
                    os.write(terminal, b"\x03")
                else:
                    os.kill(process, getattr(signal, f"SIG{how}"))
        else:
            os.kill(process, signal.SIGKILL)
            pytest.fail(f"it doesn't end: {output!r}")
    finally:
        os.close(terminal)
        _, ended = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(ended) == status, output
    assert output.count(b"saved") == 1 and output.count(b"finishing the iteration") == 1


@pytest.mark.parametrize(("name", "status"), [("HUP", 129), ("USR2", 140)])
def test_a_signal_to_one_rank_stops_all(run_mpi: RunMPI, name: str, status: int) -> None:
    lines = [
        "import os, signal",
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored",
        STOPPING.replace(
            "    while",
            f"    if comm.rank == 1: os.kill(os.getpid(), signal.SIG{name})\n    while",
        ),
    ]
    done = run_mpi(3, "\n".join(lines), timeout=20)
    assert done.returncode == status, done.stderr
    assert done.stdout.count("saved") == 1 and done.stderr.count(f"SIG{name} on another rank: saving.") == 1


def test_the_example_of_ranks(run_mpi: RunMPI) -> None:
    done = run_mpi(3, [str(TESTS.parent / "mpi_examples" / "hello_ranks.py")])
    assert done.returncode == 0, done.stderr
    shares = [line.split(": ")[1].split(",")[0] for line in done.stdout.splitlines()]
    assert shares == ["environments 0 to 5", "environments 6 to 10", "environments 11 to 15"]
