"""Studies are trained by a pool, by groups of ranks, and by a job array; again means going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ppo_and_friends.studies.plan import progress_of
from ppo_and_friends.studies.pool import StudyPool
from tests.command_line import SMALL, Done, run, spawn
from tests.conftest import ROOT, RunMPI, clean_environment
from tests.toys import NAME

TOY = ("-e", NAME, "--num_timesteps=640", *SMALL)
FAULTY = "--grid=environment.arguments.fault=nan_reward,none"


def study(folder: Path, *arguments: str, timesteps: int = 640) -> list[str]:
    return [*TOY, f"--num_timesteps={timesteps}", "--state_path", str(folder), *arguments]


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*-study/*/seed-*/progress.csv"))


def checkpoints(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*-study/*/seed-*/checkpoints/*/*")}


@pytest.mark.slow
def test_failures_are_listed_and_the_rest_is_done_and_left_alone(tmp_path: Path):
    # Without the sixth small setting names stay short: the faulty variant fails at its 100th step.
    arguments = study(tmp_path, "--seeds=1,2", FAULTY, "--jobs=2")
    done = spawn(*arguments, timeout=180)  # four runs start, maybe on a busy machine
    assert done.status == 1, done.out
    assert "4 runs: 2 done, 2 failed" in done.out
    listed = done.out.partition("2 of 4 runs failed:\n")[2].splitlines()[:2]
    assert all("nan is not a finite number" in line and "output.log" in line for line in listed)
    assert [progress_of(path).timesteps for path in runs(tmp_path) if "none" in str(path)] == [732, 732]
    before = {path: when for path, when in checkpoints(tmp_path).items() if "none" in str(path)}
    assert before
    again = run(*study(tmp_path, "--seeds=1,2", "--grid=environment.arguments.fault=none"))
    assert again.status == 0 and "2 runs: 2 done" in again.out
    assert before == {path: when for path, when in checkpoints(tmp_path).items() if path in before}


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on(tmp_path: Path):
    arguments = study(tmp_path, "--seeds=1-3", "--jobs=1", timesteps=400_000)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    deadline = time.monotonic() + 60
    while not runs(tmp_path) or progress_of(runs(tmp_path)[0]).timesteps < 1000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "1 stopped" in out and "2 waiting" in out
    (begun,) = runs(tmp_path)
    reached = progress_of(begun).timesteps
    assert 1000 <= reached < 400_000  # and a checkpoint of it:
    more = run(*study(tmp_path, "--seeds=1", "--jobs=1", timesteps=reached + 100))
    assert more.status == 0 and "1 done" in more.out
    assert progress_of(begun).timesteps > reached


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_pool_passes_on_every_signal_that_a_run_acts_on(number: signal.Signals, tmp_path: Path):
    pool = StudyPool([])
    told: list[signal.Signals] = []

    def fill() -> bool:
        if not told:
            os.kill(os.getpid(), number)
        return False

    pool._fill = fill  # type: ignore[method-assign]
    pool._tell = told.append  # type: ignore[method-assign]
    pool._running.append(None)  # type: ignore[arg-type]

    def collect() -> bool:
        if told:
            pool._running.clear()
        return False

    pool._collect = collect  # type: ignore[method-assign]
    before = signal.signal(number, signal.SIG_DFL)  # nohup would have it ignored
    try:
        assert pool.train() == 128 + number
    finally:
        assert signal.signal(number, before) == signal.SIG_DFL
    assert told[0] == number


def test_other_settings_in_the_folder_are_refused(tmp_path: Path):
    sweep = tmp_path / "sweep.yaml"
    values = (
        "environment: tests.toys:Toy-v0\nseeds: 1\nnum_timesteps: 128\nset: {environment.num_envs: 4, %s}\n"
    )
    small = "ppo.rollout_timesteps: 128, ppo.epochs: "
    sweep.write_text(values % (small + "1"))
    assert run("study", sweep, "--state_path", tmp_path, "--no_tensorboard").status == 0
    sweep.write_text(values % (small + "2"))
    done = run("study", sweep, "--state_path", tmp_path, "--no_tensorboard")
    assert done.status == 2
    assert "trained with other settings: ppo.epochs is 2 (saved: 1)" in done.err


@pytest.mark.slow
@pytest.mark.mpi
def test_groups_of_ranks_train_each_run_once(run_mpi: RunMPI, tmp_path: Path):
    def job(size: int, group: int, *more: str) -> Done:
        arguments = study(tmp_path, "--seeds=1,2", FAULTY, f"--group={group}", *more)
        done = run_mpi(size, [str(ROOT / "main.py"), *arguments])
        return Done(done.returncode, done.stdout, done.stderr)

    done = job(4, 2)
    assert done.status == 1, done.err
    assert "4 runs: 2 done, 2 failed" in done.out
    assert done.out.count("begins") == 4  # each by one group
    assert not list(tmp_path.glob("*-study/.claims"))
    (refused,) = job(3, 2).complaint
    assert "--group 2 doesn't divide the 3 ranks" in refused
    # What groups trained, a pool knows as finished.
    again = run(*study(tmp_path, "--seeds=1,2", "--grid=environment.arguments.fault=none"))
    assert "2 runs: 2 done" in again.out


@pytest.mark.slow
def test_a_job_array_trains_what_is_not_finished(tmp_path: Path):
    def array(index: int) -> subprocess.CompletedProcess[str]:
        script = next(tmp_path.glob("*-study/slurm/array.sh"))
        return subprocess.run(
            ["bash", str(script)],
            env=clean_environment() | {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_NTASKS": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    arguments: Sequence[str] = study(tmp_path, "--seeds=1,2", "--slurm", "time=1:00:00", "mem=2G")
    done = run(*arguments)
    assert done.status == 0 and "sbatch" in done.out
    text = next(tmp_path.glob("*-study/slurm/array.sh")).read_text()
    assert f'#SBATCH --output="{tmp_path.resolve()}' in text  # in quotes: a folder's name may have blanks
    assert "#SBATCH --array=1-2\n" in text and "#SBATCH --time=1:00:00\n#SBATCH --mem=2G\n" in text
    assert array(2).returncode == 0
    assert [path.name for path in runs(tmp_path)] == ["seed-2"]
    run(*arguments)
    commands = next(tmp_path.glob("*-study/slurm/runs.txt")).read_text().splitlines()
    assert len(commands) == 2 and "--random_seed=1" in commands[0]  # a task's number stays its run's
    assert "#SBATCH --array=1\n" in next(tmp_path.glob("*-study/slurm/array.sh")).read_text()
    assert array(1).returncode == 0
    assert "there is nothing to submit" in run(*arguments).err


def test_progress_of_nothing(tmp_path: Path):
    assert progress_of(tmp_path).timesteps == 0
    (tmp_path / "progress.csv").write_text(
        "iteration,timesteps,seconds,episode_return_mean\n1,10,0.5,3\n2,20,0.7,"
    )
    assert progress_of(tmp_path).timesteps == 10  # the second row isn't whole
    assert os.path.exists(tmp_path)
