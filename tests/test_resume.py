"""Going on where a run stopped: exactly, on any number of ranks, however it was stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command_line import iterations, latest, read_json, rows, run, spawn, toy
from tests.conftest import ROOT, clean_environment
from tests.toys import FOLDER

# A reset before each rollout makes the environments' state follow from the iteration alone, so that
# nothing at all may differ between a run in one go and one that was interrupted.
HARD = "--with=HardReset"
EVERYTHING = (
    HARD,
    "--with=ObservationNormalizer",
    "--with=ObservationClip",
    "--with=RewardNormalizer",
    "--with=RewardClip",
    "--with=AdvantageNormalizer",
    "--with=KLEarlyStop:target=0.001",
    "--with=AdaptiveLearningRate:target=0.001",
    "--set=ppo.learning_rate=3e-3:0",
    "--set=ppo.clip_range=0.2:0",
)


def state_of(path: Path) -> dict[str, Any]:
    """What the latest checkpoint holds, but for the time it took."""
    found = latest(path)
    return {name: value for name, value in found.state.items() if name != "seconds"}


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    """Parameters, moments, statistics, counters and rows are equal."""
    first, second = latest(one), latest(other)
    assert first.tensors.keys() == second.tensors.keys()
    assert any(name.startswith("optimizer.") for name in first.tensors)
    for name, tensor in first.tensors.items():
        torch.testing.assert_close(second.tensors[name], tensor, rtol=tolerance, atol=tolerance, msg=name)
    assert first.timesteps == second.timesteps
    if not tolerance:
        assert state_of(one) == state_of(other)
        assert rows(one) == rows(other)


@pytest.mark.parametrize("friends", [(HARD,), EVERYTHING], ids=["plain", "all friends"])
@pytest.mark.parametrize("stopped_at", [1, 3])
def test_interrupted_and_resumed_equals_uninterrupted(
    friends: tuple[str, ...], stopped_at: int, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*toy(whole, *friends)).status == 0
    done = run(*toy(parts, *friends, f"--with=tests.toys:SignalAt:iteration={stopped_at}"))
    assert done.status == 130
    assert "The same command resumes from there" in done.out
    assert iterations(parts) == list(range(1, stopped_at + 1))
    assert latest(parts).state["iteration"] == stopped_at
    assert run(*toy(parts, *friends)).status == 0
    assert len(rows(whole)) >= 5
    assert_same(whole, parts)


def test_the_schedule_goes_on(tmp_path: Path) -> None:
    """The step size of iteration k is the line's at the timesteps before it, across the resume."""
    asked = "--set=ppo.learning_rate=1e-2:0"
    assert run(*toy(tmp_path, asked, "--with=tests.toys:SignalAt:iteration=2")).status == 130
    assert run(*toy(tmp_path, asked)).status == 0
    before = 0
    for row in rows(tmp_path):
        assert float(row["learning_rate"]) == pytest.approx(1e-2 * (1 - before / 640), rel=1e-6)
        before = int(row["timesteps"])


def test_steps_and_time_count_on(tmp_path: Path) -> None:
    run(*toy(tmp_path, timesteps=256))
    first = latest(tmp_path)
    done = run(*toy(tmp_path, timesteps=640))
    assert f"resumed after iteration {first.state['iteration']}" in done.out
    second = latest(tmp_path)
    assert second.timesteps >= 640 and second.state["seconds"] > first.state["seconds"]
    assert second.state["episodes"] == sum(int(row["episodes"]) for row in rows(tmp_path))
    steps = [int(row["timesteps"]) for row in rows(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] == second.timesteps


def test_more_timesteps_than_are_done_are_needed(tmp_path: Path) -> None:
    run(*toy(tmp_path, timesteps=256))
    before = (rows(tmp_path), latest(tmp_path).manifest, read_json(tmp_path / FOLDER / "experiment.json"))
    done = run(*toy(tmp_path, timesteps=200))
    assert (done.status, done.err) == (0, "")
    assert "trained for " in done.out and "--clobber" in done.out
    more = next(int(line.split()[-1]) for line in done.out.splitlines() if line.startswith("Continue:"))
    assert more >= 2 * latest(tmp_path).timesteps
    after = (rows(tmp_path), latest(tmp_path).manifest, read_json(tmp_path / FOLDER / "experiment.json"))
    assert after == before


def test_clobber_starts_over(tmp_path: Path) -> None:
    run(*toy(tmp_path, timesteps=640))
    kept = tmp_path / FOLDER / "notes.txt"
    kept.write_text("mine")
    done = run(*toy(tmp_path, "--clobber", timesteps=100))
    assert done.status == 0 and "new run" in done.out
    assert iterations(tmp_path) == [1] and latest(tmp_path).state["iteration"] == 1
    assert kept.read_text() == "mine"


def test_a_friend_that_joins_or_leaves_is_said(tmp_path: Path) -> None:
    run(*toy(tmp_path, "--with=ObservationNormalizer", timesteps=100))
    left = ("--without=ObservationNormalizer", "--accept_changes")
    done = run(*toy(tmp_path, *left, timesteps=200))
    assert "Friend ObservationNormalizer has a saved state but is not used now." in done.out
    done = run(*toy(tmp_path, "--with=ObservationNormalizer", "--accept_changes", timesteps=300))
    assert "Friend ObservationNormalizer has no saved state: it starts from its initial state." in done.out


@pytest.mark.slow
def test_killed_between_checkpoints(tmp_path: Path) -> None:
    """Rows that were written after the last checkpoint are trained, and written, again."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*toy(whole, HARD)).status == 0
    assert run(*toy(parts, HARD, "--with=tests.toys:SignalAt:iteration=2")).status == 130
    kill = f"--with=tests.toys:SignalAt:iteration=5,number={int(signal.SIGKILL)}"
    assert spawn(*toy(parts, HARD, kill)).status == -signal.SIGKILL
    assert iterations(parts) == [1, 2, 3, 4]
    assert latest(parts).state["iteration"] == 2
    with open(parts / FOLDER / "progress.csv", "a") as file:
        file.write("5,640,1.2")  # and it was killed in the midst of a row
    assert run(*toy(parts, HARD)).status == 0
    assert_same(whole, parts)


@pytest.mark.slow
def test_ctrl_c_twice_leaves_at_once(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, timesteps=256)).status == 0
    before = latest(tmp_path)
    done = spawn(*toy(tmp_path, "--with=tests.toys:SignalAt:iteration=5,times=2"))
    assert done.status == 130 and "Traceback" not in done.err
    assert "SIGINT: finishing the iteration, then saving. Press Ctrl-C again to exit at once." in done.err
    assert (latest(tmp_path).manifest, latest(tmp_path).notes) == (before.manifest, ())
    assert run(*toy(tmp_path)).status == 0
    assert iterations(tmp_path) == list(range(1, len(rows(tmp_path)) + 1))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_the_status_tells_the_signal(number: signal.Signals, status: int, tmp_path: Path) -> None:
    done = run(*toy(tmp_path, f"--with=tests.toys:SignalAt:iteration=2,number={int(number)}"))
    assert done.status == status
    assert latest(tmp_path).state["iteration"] == 2


@pytest.mark.slow
def test_a_signal_from_outside(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / "main.py", *toy(tmp_path, timesteps=10**8)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        progress = tmp_path / FOLDER / "progress.csv"
        while not (progress.exists() and progress.read_text().count("\n") > 3):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err and "resumes from there" in out
    assert latest(tmp_path).state["iteration"] == iterations(tmp_path)[-1] == len(rows(tmp_path))


@pytest.mark.slow
@pytest.mark.mpi
def test_on_another_number_of_ranks(tmp_path: Path, mpirun_path: str) -> None:
    """1 rank, then 3, and 1 again: the same curve as on one, up to the order of sums."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = (HARD, "--with=ObservationNormalizer", "--with=RewardNormalizer")
    assert run(*toy(whole, *settings, "--set=precision=float64")).status == 0
    for ranks, stopped_at in ((1, 1), (3, 3), (1, 99)):
        stop = f"--with=tests.toys:SignalAt:iteration={stopped_at}"
        command = toy(parts, *settings, "--set=precision=float64", stop)
        done = run(*command) if ranks == 1 else spawn(*command, before=(mpirun_path, "-n", str(ranks)))
        assert done.status == (0 if stopped_at == 99 else 130), done.err
        assert done.out.count("environments on ") == 1
    assert iterations(parts) == iterations(whole)
    assert_same(whole, parts, tolerance=1e-9)


def test_nothing_is_written_outside_the_state_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(*toy(tmp_path / "state", timesteps=100))
    assert list((tmp_path / "here").iterdir()) == []
    shutil.rmtree(tmp_path / "state")
    assert os.listdir(tmp_path) == ["here"]
