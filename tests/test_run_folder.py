"""The run's folder: one writer at a time, and a clobber that removes nothing but ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.run_folder import RunFolder
from tests.conftest import clean_environment

NOBODY = 65534

HOLDING = """
import sys, time
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
with RunFolder(sys.argv[1]).lock(SoloCommunicator()):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_job_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(UsageError, match=f"process {holder.pid} on "),
            RunFolder(tmp_path / "run").lock(SoloCommunicator()),
        ):
            pytest.fail("locked twice")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with RunFolder(tmp_path / "run").lock(SoloCommunicator()):
        assert str(os.getpid()) in (tmp_path / "run" / ".lock-holder.json").read_text()
    with RunFolder(tmp_path / "run").lock(SoloCommunicator()):
        pass


def test_the_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), folder.lock(SoloCommunicator()):
        1 / 0  # noqa: B018
    with folder.lock(SoloCommunicator()):
        pass


def test_all_ranks_learn_of_the_refusal(tmp_path: Path) -> None:
    def fn(comm: Communicator) -> str:
        with pytest.raises(UsageError) as caught, RunFolder(tmp_path).lock(comm):
            pass
        return str(caught.value)

    with RunFolder(tmp_path).lock(SoloCommunicator()):
        messages = run_threaded(3, fn)
    assert len(set(messages)) == 1 and "--run_name" in messages[0]

    def enter(comm: Communicator) -> bool:
        with RunFolder(tmp_path).lock(comm):
            comm.barrier()
            return True

    assert run_threaded(3, enter) == [True] * 3


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(UsageError, match="can't be written"), RunFolder(path).lock(SoloCommunicator()):
            pytest.fail("locked")


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder of a user who hasn't root's right to write anywhere and can't pass through pytest's."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        if user == 0:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        yield Path(folder)
        os.seteuid(user)
        Path(folder).chmod(0o700)


def test_a_read_only_folder(own_folder: Path) -> None:
    with RunFolder(own_folder).lock(SoloCommunicator()):
        pass
    for path in own_folder.iterdir():
        path.unlink()
    own_folder.chmod(0o500)
    with (
        pytest.raises(UsageError, match="Permission denied"),
        RunFolder(own_folder).lock(SoloCommunicator()),
    ):
        pytest.fail("locked")


def test_clobber_removes_ours_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lock(SoloCommunicator()):
        ours = [
            folder.progress,
            folder.experiment,
            folder.test_scores,
            folder.path / "experiment.dill",
            folder.path / "learning_curve.png",
            folder.checkpoints / "000000000100" / "manifest.json",
            folder.checkpoints / "000000000200-2" / "manifest.json",
            folder.checkpoints / "000000000300.damaged" / "manifest.json",
            folder.checkpoints / ".tmp-000000000400-7" / "state.json",
            folder.checkpoints / "latest",
            folder.tensorboard / "events.out.tfevents.1.host",
        ]
        theirs = [
            folder.path / "notes.txt",
            folder.path / "figures" / "a.png",
            folder.checkpoints / "best" / "x",
        ]
        for path in ours + theirs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        folder.clobber()
        assert all(path.exists() for path in theirs)
        assert not any(path.exists() for path in ours) and not folder.tensorboard.exists()
        with pytest.raises(UsageError), RunFolder(folder.path).lock(SoloCommunicator()):
            pytest.fail("clobber let go of the lock")
        folder.clobber()  # nothing left is no error


def test_clobber_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    RunFolder(tmp_path / "none").clobber()
    assert not (tmp_path / "none").exists()
