"""A change beside none: both sides are trained once, from the same seeds, and only the change differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare


def test_it_trains_both_sides_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--environments", "CartPole", "--seeds", "1", "2", "--timesteps", "4000", "--jobs", "2"]
    given += ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "results")]
    change = ["--set", "ppo.epochs=1", "--without", "AdvantageNormalizer"]
    assert compare.main([*given, *change]) == 0
    said = capsys.readouterr().out
    assert said.count("begins") == 4 and "| CartPole | 4," in said
    record = json.loads((tmp_path / "results" / "compare.json").read_text())
    assert record["change"] == "--set ppo.epochs=1 --without AdvantageNormalizer"
    sides = record["curves"]["CartPole"]
    assert len(sides["ours"]) == len(sides["theirs"]) == 2
    # The first rollout is collected before anything is learned.
    for ours, theirs in zip(sides["ours"], sides["theirs"], strict=True):
        assert ours[0] == theirs[0] and ours[1:] != theirs[1:]
    records = [*(tmp_path / "work").glob("*/seed-2/CartPole/experiment.json")]
    changed, unchanged = sorted(
        (json.loads(path.read_text())["experiment"] for path in records),
        key=lambda settings: settings["ppo"]["epochs"],
    )
    assert changed["ppo"]["epochs"] == 1 and not changed["friends"] and unchanged["friends"]
    assert (tmp_path / "results" / "compare.png").stat().st_size > 1000
    assert "without" in (tmp_path / "results" / "compare.md").read_text()
    assert compare.main([*given, *change, "--environments", "CartPole", "CartPole-v1"]) == 0
    assert "begins" not in capsys.readouterr().out, "it trained again"
    (tmp_path / "file").touch()
    assert compare.main([*given, *change, "--output", str(tmp_path / "file")]) == 2
    assert "file can't be written: File exists. Give another --output" in capsys.readouterr().err


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--environments", "CartPole", "--timesteps", "4000", "--work", str(tmp_path)]
    assert compare.main(given) == 2
    assert "Nothing is compared" in capsys.readouterr().err
    assert compare.main([*given, "--set", "ppo.epochs=1", "--seeds"]) == 2
    assert "Nothing is compared" in capsys.readouterr().err
    assert compare.main([*given, "--set", "random_seed=5"]) == 2
    assert "same --timesteps and --seeds" in capsys.readouterr().err
    assert compare.main([*given, "--set", "ppo.epoch=1"]) == 2
    assert "epoch" in capsys.readouterr().err
