"""A session: when it saves, how often it asks the other ranks, and what it does with errors."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.runs import session as sessions
from tests.command_line import iterations, latest, run, toy
from tests.conftest import ROOT, clean_environment
from tests.toys import FOLDER


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_rank_0_finds_reaches_all_ranks(size: int) -> None:
    called: list[int] = []

    def program(comm: Communicator) -> Any:
        return on_main(comm, lambda: called.append(comm.rank) or f"found by {comm.rank}")

    assert run_threaded(size, program) == ["found by 0"] * size
    assert called == [0]


def test_what_rank_0_raises_reaches_all_ranks() -> None:
    def refuse() -> None:
        raise UsageError("no")

    def program(comm: Communicator) -> str:
        with pytest.raises(UsageError, match="no"):
            on_main(comm, refuse)
        return "went on"

    assert run_threaded(3, program) == ["went on"] * 3


class TestSaving:
    """Five iterations of the toy."""

    @pytest.fixture
    def saved(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Fills with the iterations of the checkpoints that are written."""
        written: list[int] = []
        save = sessions.save_checkpoint

        def spy(folder: Path, timesteps: int, tensors: Any, state: Any, *rest: Any) -> Path:
            written.append(state["iteration"])
            return save(folder, timesteps, tensors, state, *rest)

        monkeypatch.setattr(sessions, "save_checkpoint", spy)
        return written

    def test_once_at_the_end_of_a_short_run(self, saved: list[int], tmp_path: Path) -> None:
        assert run(*toy(tmp_path, timesteps=600)).status == 0
        assert saved == [5]

    def test_each_iteration_and_the_last_one_once(self, saved: list[int], tmp_path: Path) -> None:
        assert run(*toy(tmp_path, "--set=checkpoint_seconds=0", timesteps=600)).status == 0
        assert saved == [1, 2, 3, 4, 5]
        kept = sorted(path.name for path in (tmp_path / FOLDER / "checkpoints").iterdir() if path.is_dir())
        assert len(kept) == 2 and int(kept[-1]) == latest(tmp_path).timesteps

    def test_keeps_as_many_as_asked(self, saved: list[int], tmp_path: Path) -> None:
        settings = ("--set=checkpoint_seconds=0", "--set=keep_checkpoints=4")
        assert run(*toy(tmp_path, *settings, timesteps=600)).status == 0
        assert len([path for path in (tmp_path / FOLDER / "checkpoints").iterdir() if path.is_dir()]) == 4

    def test_when_stopped(self, saved: list[int], tmp_path: Path) -> None:
        assert run(*toy(tmp_path, "--with=tests.toys:SignalAt:iteration=3")).status == 130
        assert saved == [3]

    def test_a_failing_save_in_between_is_a_warning(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        save, tried = sessions.save_checkpoint, []

        def fail_at_first(*arguments: Any) -> Path:
            tried.append(arguments)
            if len(tried) < 3:
                raise CheckpointError("no room")
            return save(*arguments)

        monkeypatch.setattr(sessions, "save_checkpoint", fail_at_first)
        done = run(*toy(tmp_path, "--set=checkpoint_seconds=0", timesteps=600))
        assert (done.status, done.err) == (0, "")
        assert done.out.count("Warning: no room") == 2
        assert latest(tmp_path).state["iteration"] == 5 and iterations(tmp_path) == [1, 2, 3, 4, 5]

    def test_a_failing_save_at_the_end_is_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def fail(*arguments: Any) -> Path:
            raise CheckpointError("no room")

        monkeypatch.setattr(sessions, "save_checkpoint", fail)
        done = run(*toy(tmp_path, timesteps=100))
        assert (done.status, done.complaint) == (1, ["no room"])


@pytest.mark.slow
def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """A live display with a bar; then the character that a keyboard sends, and the terminal is as before."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, ROOT / "main.py", *toy(tmp_path, timesteps=10**8)],
        env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    seen, sent, deadline = b"", False, time.monotonic() + 60
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([main], [], [], 0.1)[0]:
                seen += os.read(main, 65536)
            if not sent and b"explained variance" in seen.lower():
                sent = True
                os.write(main, b"\x03")
        while select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 65536)
    finally:
        process.kill()
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert process.returncode == 130, text[-3000:]
    assert "SIGINT: finishing the iteration, then saving." in text
    assert "The same command resumes from there." in text and "Traceback" not in text
    assert seen.count(b"\x1b[?25l") == 0  # the cursor was never hidden
    assert latest(tmp_path).state["iteration"] == iterations(tmp_path)[-1]


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
