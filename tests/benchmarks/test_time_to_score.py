"""Times to a score: every run is written when it ends, and the missing ones can be done later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import time_to_score
from benchmarks.report import MeasurementError

Call = tuple[str, int]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The runs that were started; seed 13 of ours fails."""
    started: list[Call] = []

    def ours(name: str, seed: int, score: float, options: Any) -> dict[str, Any]:
        started.append((name, seed))
        if seed == 13:
            raise MeasurementError(f"{name} seed 13 failed")
        return {"seed": seed, "reached": {"seconds": float(seed), "timesteps": 100 * seed, "score": score}}

    monkeypatch.setattr(time_to_score, "run_ours", ours)
    return started


def run(output: Path, *arguments: str) -> int:
    return time_to_score.main(["--output", str(output), *arguments])


def test_a_failed_run_is_done_again_and_the_others_are_kept(tmp_path: Path, calls: list[Call]) -> None:
    output = tmp_path / "times.json"
    assert run(output, "--environments", "CartPole", "--seeds", "1", "13", "3") == 1
    assert calls == [("CartPole", seed) for seed in (1, 13, 3)]
    calls.clear()
    assert run(output, "--environments", "CartPole", "--seeds", "1", "13", "3", "4") == 1
    assert calls == [("CartPole", 13), ("CartPole", 4)]
    row = json.loads(output.read_text())["rows"]["CartPole"]
    assert [one["seed"] for one in row["ours"]] == [1, 3, 4]
    assert all(one["measured_at"] for one in row["ours"])
    # Seconds 1, 3 and 4: the median is 3.
    text = output.with_suffix(".md").read_text()
    assert "| CartPole | 475 | 3.0 s (300 steps; 3 of 3) | - | - |" in text


def test_other_launchers_stay_and_other_settings_start_over(tmp_path: Path, calls: list[Call]) -> None:
    output = tmp_path / "times.json"
    assert run(output, "--environments", "CartPole", "--seeds", "1") == 0
    assert run(output, "--environments", "LunarLander", "--seeds", "2") == 0
    calls.clear()
    # Another number of ranks: nothing of the former row is comparable.
    assert run(output, "--environments", "CartPole", "--seeds", "1", "--ranks", "1") == 0
    assert len(calls) == 1
    rows = json.loads(output.read_text())["rows"]
    assert rows["CartPole"]["ranks"] == 1 and len(rows["CartPole"]["ours"]) == 1
    assert [one["seed"] for one in rows["LunarLander"]["ours"]] == [2]


def test_a_file_of_something_else_is_not_overwritten(
    tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "other.json"
    output.write_text('{"other": 1}')
    assert run(output, "--environments", "CartPole") == 2
    assert "--output" in capsys.readouterr().err and not calls
    assert output.read_text() == '{"other": 1}'
