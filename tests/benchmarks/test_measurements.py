"""The arithmetic of the speed reports, on made-up measurements."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import jobs
from benchmarks.jobs import Job, Pool
from benchmarks.long_run import slope, slowdown
from benchmarks.parity import COMMON, compare, plain_changes, same_spec
from benchmarks.runs import Changes, Run
from benchmarks.speed import counted, rate_and_split, rates_table, split_table, write_speed
from benchmarks.time_to_score import first_reaching, median_time
from ppo_and_friends.errors import UsageError


def results() -> dict[str, Any]:
    split = {"environment": 0.5, "inference": 0.1, "update": 0.3, "communication": 0.0, "rest": 0.1}

    def measured(*rates: float) -> list[dict[str, Any]]:
        return [{"steps_per_second": rate, "split": split} for rate in rates]

    ours = "ours, 1 rank on 1 core", "ours, 2 ranks"
    return {
        "measured_at": "now",
        "cores": 2,
        "seconds": 5.0,
        "rounds": 3,
        "source": {"commit": "a" * 40, "dirty": False},
        "failures": ["Hopper, ours, 2 ranks: gone"],
        "rows": {
            "BipedalWalker": {ours[0]: measured(10_000, 30_000, 12_000), ours[1]: measured(24_000)},
            "Hopper": {ours[0]: measured(1_000), ours[1]: []},
        },
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rates_are_medians_and_the_ratio_is_of_medians() -> None:
    first, second = rates_table(results()).splitlines()[2:]
    assert cells(first) == ["BipedalWalker", "12,000", "24,000", "2.00"]
    assert cells(second) == ["Hopper", "1,000", "-", "-"]
    lines = split_table(results()).splitlines()[2:]
    assert len(lines) == 3  # nothing was measured of one
    assert cells(lines[0])[2:] == ["50%", "10%", "30%", "0%", "0%", "10%"]


def test_a_rate_is_of_the_iterations_after_the_warm_up() -> None:
    names = ("timesteps", "seconds", "time_environment", "time_update")
    table = [(10, 9.0, 8, 8), (20, 9.5, 8, 8), (30, 10.0, 8, 8), (50, 11.0, 0.5, 0.25), (90, 12.0, 0.7, 0.35)]
    result = rate_and_split(counted([dict(zip(names, map(str, row), strict=True)) for row in table]))
    # 60 steps in 2 s, of which the environment took 1.2 and the update 0.6.
    assert result["steps_per_second"] == pytest.approx(30.0)
    assert result["split"]["environment"] == pytest.approx(0.6)
    assert result["split"]["rest"] == pytest.approx(0.1)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    text = write_speed(results(), tmp_path / "speed")
    assert "Failed: Hopper, ours, 2 ranks: gone" in text
    assert json.loads((tmp_path / "speed" / "speed.json").read_text()) == results()
    assert (tmp_path / "speed" / "speed.md").read_text() == text


def test_peers_alone_make_one_table(tmp_path: Path) -> None:
    rates = {"ours": [{"steps_per_second": rate} for rate in (8000.0, 9000.0, 7000.0)], "sb3": []}
    text = write_speed(results() | {"rows": {}, "failures": [], "equal_work": {"small": rates}}, tmp_path)
    assert cells(text.splitlines()[-1]) == ["small", "8,000", "-", "-"]
    assert text.count("\n|---") == 1


def test_what_has_done_enough_ends_with_all_it_started(tmp_path: Path) -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    log, began = tmp_path / "log", time.monotonic()

    def enough() -> bool:
        return log.exists() and bool(log.read_text())

    job = Job("parent", [[sys.executable, "-S", "-c", parent]], log, limit=60.0, enough=enough)
    assert Pool(1, lambda line: None).run([job]) is None
    assert job.returncode is None and time.monotonic() - began < 30
    if sys.platform == "linux":
        state = Path(f"/proc/{int(log.read_text())}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    job, began = Job("sleep", [sleep, sleep], tmp_path / "log", limit=0.5), time.monotonic()
    assert Pool(1, lambda line: None).run([job]) is None
    assert job.returncode is None and time.monotonic() - began < 10


def test_a_score_counts_from_a_hundred_episodes_on() -> None:
    names = ("timesteps", "seconds", "episodes", "episode_return_mean_100")
    table = [(100, 0.5, 60, 500.0), (200, 1.0, 39, 500.0), (300, 1.5, 0, ""), (400, 2.0, 1, 480.0)]
    rows = [dict(zip(names, map(str, row), strict=True)) for row in table]
    assert first_reaching(rows, 475) == {"timesteps": 400, "seconds": 2.0, "score": 480.0}
    assert first_reaching(rows, 490) is None
    assert first_reaching(rows[:3], 475) is None


def test_times_are_medians_of_the_runs_that_got_there() -> None:
    runs = [{"reached": {"seconds": s, "timesteps": 10 * s}} for s in (1, 3, 9)] + [{"reached": None}]
    assert median_time(runs) == "3.0 s (30 steps; 3 of 4)"
    assert median_time([{"reached": None}]) == "never (0 of 1)"
    assert median_time([]) == "-"


@pytest.mark.parametrize("name", ["CartPole", "HalfCheetah"])
def test_parity_trains_the_plain_algorithm_on_both_sides(name: str, tmp_path: Path) -> None:
    run = Run.of(name, 1, tmp_path, plain_changes(name, 5000))
    friends = [spec.name for spec in run.experiment.friends]
    assert friends[-1] == "AdvantageNormalizer"
    assert run.experiment.friends[-1].arguments == {"per_minibatch": True}
    assert ("RewardNormalizer" in friends) == (name == "HalfCheetah")
    assert run.experiment.ppo.minibatch_size == 128 and len(COMMON) == len(set(COMMON))
    spec = json.loads(json.dumps(same_spec(run)))  # plain data
    assert spec["ppo"] == {
        "n_steps": 512, "batch_size": 128, "n_epochs": 10, "gamma": 0.99, "gae_lambda": 0.95,
        "learning_rate": 3e-4, "clip_range": 0.2, "clip_range_vf": None, "ent_coef": 0.0, "vf_coef": 0.5,
        "max_grad_norm": 0.5,
    }  # fmt: skip
    assert (spec["n_envs"], spec["pi"], spec["vf"], spec["seed"]) == (8, [64, 64], [64, 64], 1)
    assert spec["norm_obs"] == spec["norm_reward"] == (name == "HalfCheetah")


def test_images_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images"):
        same_spec(Run.of("BreakoutPixels", 1, tmp_path, Changes()))


def test_curves_are_compared_in_standard_errors() -> None:
    x = np.linspace(0, 1000, 50)
    ours = [(x, np.full(50, level)) for level in (1.0, 2.0, 3.0)]
    theirs = [(x, np.full(50, level)) for level in (3.0, 4.0, 5.0)]
    one = compare(ours, theirs)
    # Means 2 and 4; each side's variance is 1 over 3 seeds: the error is sqrt(2 / 3).
    assert one["standard_errors"] == pytest.approx(-2 / np.sqrt(2 / 3))
    assert one["within"] == 0.0
    assert compare(ours, ours)["standard_errors"] == 0 and compare(ours, ours)["within"] == 1.0


def test_growth_is_seen_and_a_jump_is_not() -> None:
    noise = np.random.default_rng(1).normal(size=2000)
    assert slope(1000 + 0.5 * np.arange(2000) + noise) == pytest.approx(0.5, abs=0.02)
    jump = np.where(np.arange(2000) < 1800, 0.0, 4000.0) + noise
    assert abs(slope(jump)) < 0.1
    assert slowdown(np.cumsum(np.full(2001, 0.01))) == pytest.approx(1.0)
    assert slowdown(np.cumsum(np.linspace(0.01, 0.03, 2001))) > 1.5


@pytest.mark.slow
def test_a_launcher_is_trained_until_it_is_enough() -> None:
    rows = jobs.train("CartPole", lambda rows: len(rows) >= 5, seed=2, changes=("--set", "ppo.epochs=1"))
    assert len(rows) >= 5 and int(rows[-1]["timesteps"]) > 0
    assert 0 < rate_and_split(counted(rows))["split"]["update"] < 1
