"""The job array's script, run by a shell with a stand-in for Slurm's commands."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.studies import slurm
from ppo_and_friends.studies.plan import StudyRun

# Saves for a while after the signal, as a run does, and ends with its status.
RUN = """\
trap 'sleep 0.2; echo saved >> "$1"; exit {status}' USR1
echo begun >> "$1"
[ "{status}" = 3 ] && exit 3
while :; do sleep 0.02; done
"""


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 138) -> Path:
    program = folder / "run.sh"
    program.write_text(RUN.format(status=status))
    monkeypatch.setattr(slurm, "command", lambda: ["bash", str(program)])
    experiment: Any = None
    runs = [
        StudyRun(name, (str(folder / f"{name}.txt"),), folder / name, experiment)
        for name in ("one", "two", "three")
    ]
    # The second run is finished already.
    monkeypatch.setattr(slurm, "is_finished", lambda run: run.label == "two")
    return slurm.write_array(runs, folder)


def array(folder: Path, script: Path, task: int) -> subprocess.Popen[bytes]:
    fake = folder / "bin"
    fake.mkdir()
    (fake / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{folder}/scontrol.txt"\n')
    (fake / "scontrol").chmod(0o755)
    names = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "77", "PATH": f"{fake}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", str(script)], env=os.environ | names)


def read(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_task_that_reaches_its_time_limit_saves_and_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = written(tmp_path, monkeypatch)
    # Tasks keep their runs' lines, so that one that is queued again finds its own.
    assert "#SBATCH --array=1,3\n" in script.read_text()
    assert "#SBATCH --open-mode=append\n" in script.read_text()  # the log of before stays
    process = array(tmp_path, script, 3)
    until = time.monotonic() + 10.0
    while not read(tmp_path / "three.txt") and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 138
    assert read(tmp_path / "three.txt") == ["begun", "saved"]  # it was waited for
    assert read(tmp_path / "scontrol.txt") == ["requeue", "77"]


def test_a_task_that_fails_is_not_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert array(tmp_path, written(tmp_path, monkeypatch, status=3), 1).wait(10) == 3
    assert read(tmp_path / "one.txt") == ["begun"] and not read(tmp_path / "scontrol.txt")


def test_numbers_as_slurm_writes_them() -> None:
    assert slurm._ranges([1, 2, 3, 5, 7, 8]) == "1-3,5,7-8"
    assert slurm._ranges([4]) == "4"
