"""The arithmetic of the speed reports, on made-up measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.curve_comparison import compare
from benchmarks.growth import slope, slowdown
from benchmarks.measurements import frame_counts, run_limited
from benchmarks.parity import COMMON, plain_changes
from benchmarks.runs import Run
from benchmarks.speed_report import engine_table, rates_table, write_speed
from benchmarks.time_results import median_time
from benchmarks.time_to_score import first_reaching
from benchmarks.zoo import ZOO, same_spec, zoo_spec
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.registry import resolve


def results() -> dict[str, Any]:
    split = {"environment": 0.5, "inference": 0.1, "update": 0.3, "communication": 0.0, "rest": 0.1}

    def one(rate: float, engine: float) -> dict[str, Any]:
        measured = {"steps_per_second": rate, "engine_steps_per_second": engine}
        return measured | {"peak_megabytes": 321.4, "split": split, "reporting": 0.0123}

    ours = "ours, 1 rank on 1 core", "ours, 1 rank", "ours, 2 ranks"
    return {
        "measured_at": "now",
        "cores": 2,
        "seconds": 5.0,
        "rounds": 3,
        "source": {"commit": "a" * 40, "dirty": False},
        "failures": ["Hopper, Sample-Factory: gone"],
        "rows": {
            "BipedalWalker": {
                ours[0]: [one(10_000, 20_000), one(30_000, 40_000), one(12_000, 16_000)],
                ours[1]: [one(15_000, 30_000)] * 3,
                ours[2]: [one(24_000, 32_000)] * 3,
                "SB3, our settings": [{"steps_per_second": rate} for rate in (3_000, 9_000, 4_000)],
                "Sample-Factory": [{"steps_per_second": 6_000}],
            },
            "Hopper": {ours[2]: [], "Sample-Factory": []},
        },
    }


def test_rates_are_medians_and_ratios_of_medians() -> None:
    first, second = rates_table(results()).splitlines()[2:]
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "BipedalWalker", "12,000", "15,000", "24,000", "4,000", "6,000", "2.00", "6.00", "4.00",
    ]  # fmt: skip
    assert set(second.replace("Hopper", "").replace("|", "").split()) == {"-"}


def test_the_engines_share_is_the_median_of_each_rounds_ratio() -> None:
    line = engine_table(results()).splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:6] == ["12,000", "20,000", "0.75", "321"]
    assert cells[6:] == ["50%", "10%", "30%", "0%", "10%", "1.2%"]


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    text = write_speed(results(), tmp_path / "speed")
    assert "Failed: Hopper, Sample-Factory: gone" in text
    assert json.loads((tmp_path / "speed" / "speed.json").read_text()) == results()
    assert (tmp_path / "speed" / "speed.png").read_bytes()[:4] == b"\x89PNG"


def test_sample_factorys_own_count_is_read() -> None:
    log = (
        "\x1b[36m[2026-01-02 03:04:05,500][1] Fps is (10 sec: nan). Total num frames: 0. Throughput\n"
        "[2026-01-02 03:04:10,500][1] Fps is (10 sec: 5.0). Total num frames: 4096. Throughput\n"
        "[2026-01-02 03:04:15,750][1] Fps is (10 sec: 5.0). Total num frames: 12288. Throughput\n"
    )
    (start, before), (end, after) = frame_counts(log)
    assert end - start == pytest.approx(5.25) and (before, after) == (4096, 12288)


def test_what_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    log, began = tmp_path / "log", time.monotonic()
    code = run_limited(
        [sys.executable, "-S", "-c", parent], log, 60, os.environ, enough=lambda: bool(log.read_text())
    )
    assert code is None and time.monotonic() - began < 30
    pid = int(log.read_text())
    state = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":
        assert not state.exists() or state.read_text().split()[2] == "Z"
    assert run_limited([sys.executable, "-S", "-c", "raise SystemExit(3)"], log, 60, os.environ) == 3


def test_a_score_counts_from_a_hundred_episodes_on() -> None:
    names = ("timesteps", "seconds", "episodes", "score_mean_100")
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


def test_our_settings_in_the_peers_terms() -> None:
    experiment = resolve("BipedalWalker")
    spec = same_spec(experiment)
    assert spec["env_id"] == "BipedalWalker-v3" and spec["norm_obs"] and not spec.get("atari")
    assert spec["n_envs"] * spec["ppo"]["n_steps"] == experiment.ppo.rollout_timesteps
    assert spec["ppo"]["batch_size"] == experiment.ppo.minibatch_size
    assert spec["ppo"]["learning_rate"] == [experiment.ppo.learning_rate.start, 0.0]
    json.dumps(spec)  # plain data
    with pytest.raises(UsageError, match="pixels"):
        same_spec(resolve("BreakoutRAM"))


def test_the_zoo_has_settings_for_launchers_only() -> None:
    for name in ZOO:
        assert zoo_spec(resolve(name))["n_timesteps"] >= 100_000
    with pytest.raises(UsageError, match="zoo"):
        zoo_spec(resolve("Swimmer"))


@pytest.mark.parametrize("name", ["CartPole", "HalfCheetah"])
def test_parity_trains_the_plain_algorithm_on_both_sides(name: str, tmp_path: Path) -> None:
    run = Run.of(name, 1, tmp_path, plain_changes(name, 5000))
    friends = [spec.name for spec in run.experiment.friends]
    assert friends[-1] == "AdvantageNormalizer"
    assert run.experiment.friends[-1].arguments == {"per_minibatch": True}
    assert ("RewardNormalizer" in friends) == (name == "HalfCheetah")
    assert run.experiment.ppo.minibatch_size == 128 and len(COMMON) == len(set(COMMON))
    assert same_spec(run.experiment)["ppo"]["learning_rate"] == 3e-4


def test_curves_are_compared_in_standard_errors() -> None:
    x = np.linspace(0, 1000, 50)
    ours = [np.stack([x, np.full(50, level)], 1) for level in (1.0, 2.0, 3.0)]
    theirs = [np.stack([x, np.full(50, level)], 1) for level in (3.0, 4.0, 5.0)]
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
def test_our_own_measurement_gives_rate_split_and_engine(tmp_path: Path) -> None:
    from benchmarks.measurements import HERE

    spec, answer = tmp_path / "spec.json", tmp_path / "answer.json"
    spec.write_text(json.dumps({"environment": "CartPole", "seconds": 0.5}))
    subprocess.run([sys.executable, str(HERE / "measure_ours.py"), str(spec), str(answer)], check=True)
    result = json.loads(answer.read_text())
    assert 0 < result["steps_per_second"] < result["engine_steps_per_second"]
    assert sum(result["split"].values()) == pytest.approx(1.0)
    assert 0.0 < result["reporting"] < 0.5 and result["report_ends_seconds"] > 0.0
    assert 50 < result["peak_megabytes"] < 1500
