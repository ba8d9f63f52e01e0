"""Processes of environments: however the main program is written, and however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppo_and_friends.distributed.interrupts import SIGNALS
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.process_start import start_method
from tests.vector.toys import Clock, toy

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import gymnasium, signal, sys, time
import numpy as np
from tests.vector.toys import Clock
from ppo_and_friends.distributed.interrupts import SIGNALS
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.factory import make_vector_env

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits none

class Own(Clock):
    pass

gymnasium.register("Own-v0", entry_point=Own)
env = make_vector_env(EnvironmentSettings(id="Own-v0", backend="async"), Layout(2, 0, 2))
print(env.reset(7)["policy"].tolist(), flush=True)
if "wait" in sys.argv:
    while True:
        env.step(np.zeros(2, np.int64))
env.close()
"""


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The script above, which has no ``if __name__ == "__main__"`` and registers its own environment."""
    path = folder / "script.py"
    path.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_script_needs_no_guard_and_may_register_its_own(tmp_path: Path) -> None:
    out, err = started(tmp_path).communicate(timeout=100)
    assert (out, err) == ("[[7.0, 0.0, 0.0], [8.0, 0.0, 0.0]]\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_processes_end_without_a_word(tmp_path: Path, number: signal.Signals) -> None:
    script = started(tmp_path, "wait")
    assert script.stdout is not None
    script.stdout.readline()
    if number == signal.SIGINT:
        os.killpg(script.pid, number)  # as a terminal does: to all of them
    else:
        script.send_signal(number)
    _, err = script.communicate(timeout=60)  # which ends when nobody holds the pipe any more
    lines = [line for line in err.splitlines() if "Traceback" in line]
    assert len(lines) == (number == signal.SIGINT), err  # the script's own KeyboardInterrupt
    for _ in range(100):
        try:
            os.killpg(script.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes are left")


def test_a_signal_to_every_process_leaves_the_environments_to_the_main_one() -> None:
    with closing(make_vector_env(toy(Clock, "async"), Layout(1, 0, 1))) as env:
        env.reset(1)
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        for process in [server, *(each.pid for each in multiprocessing.active_children())]:
            for number in SIGNALS:
                os.kill(process, number)
        time.sleep(0.1)
        env.step(np.zeros(1, np.int64))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_start_method_is_a_setting(method: str) -> None:
    settings = toy(Clock, "async", start_method=method)
    with closing(make_vector_env(settings, Layout(3, 1, 2))) as env:
        np.testing.assert_array_equal(env.reset(5)["policy"][:, 0], [5, 6])


def test_the_automatic_one_copies_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_method("auto") == "forkserver"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert start_method("auto") == "spawn"
    with pytest.raises(UsageError, match="start_method=fork: this system has spawn only"):
        start_method("fork")


class Sizes(Clock):
    """Lasts as long as its number of process says, in an observation of that size."""

    def __init__(self) -> None:
        super().__init__()
        from gymnasium import spaces

        name = multiprocessing.current_process().name
        self.observation_space: Any = spaces.Box(-1.0, 1.0, (1 + int(name.rpartition(" ")[2]),))


def test_different_spaces_are_refused() -> None:
    with pytest.raises(UsageError, match="don't all have the same spaces"):
        make_vector_env(toy(Sizes, "async"), Layout(2, 0, 2))
