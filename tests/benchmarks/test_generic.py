"""The check of the generic launcher: baselines, tables, and going on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import generic
from ppo_and_friends.settings.registry import resolve


def test_its_environments_have_no_launcher() -> None:
    for id in generic.BUDGETS:
        assert resolve(id).name == id


def test_random_actions_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    # CartPole under random actions: about 22 steps an episode.
    assert abs(generic.random_score("CartPole-v0") - 22.0) < 5.0
    # Cut off after 30 steps of at least -1 each; what isn't whole counts only where nothing is.
    monkeypatch.setattr(generic, "RANDOM_STEPS", 30)
    assert generic.random_score("CliffWalking-v1") <= -30
    assert 8 <= generic.random_score("CartPole-v0") <= 30


def test_numbers_and_the_table() -> None:
    assert [generic.number(value) for value in (-0.456, 12.34, 45678.9)] == ["-0.46", "12.3", "45,679"]
    rows = {"A-v0": {"timesteps": 1000, "scores": [1.0, 20.0], "random": 0.5, "solved": None}}
    assert "| A-v0 | 1,000 | 0.50 | 1.00, 20.0 |  |" in generic.table(rows)


def test_it_trains_once_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out" / "generic.json"
    arguments = ["--environments", "FrozenLake-v1", "--timesteps", "4096", "--seeds", "1"]
    arguments += ["--work", str(tmp_path / "work"), "--output", str(output)]
    assert generic.main(arguments) == 0
    row = json.loads(output.read_text())["rows"]["FrozenLake-v1"]
    assert row["timesteps"] >= 4096 and row["solved"] == 0.7 and len(row["scores"]) == 1
    assert 0 <= row["scores"][0] <= 1 and 0 <= row["random"] < 0.1
    assert "begins" in capsys.readouterr().out
    assert generic.main(arguments) == 0
    assert "begins" not in capsys.readouterr().out, "it trained again"
    # An evaluation of another policy isn't taken for this one's.
    evaluation = tmp_path / "work" / "results" / "FrozenLake-v1" / "seed-1" / "evaluation.json"
    record = json.loads(evaluation.read_text())
    evaluation.write_text(json.dumps(record | {"policy_sha256": "another", "mean": 77.0}))
    assert generic.main(arguments) == 0
    assert json.loads(output.read_text())["rows"]["FrozenLake-v1"] == row


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generic.main(["--environments", "Nowhere-v0", "--work", str(tmp_path)]) == 2
    assert "Nowhere-v0" in capsys.readouterr().err
    assert generic.main(["--timesteps", "1000"]) == 2
    assert "--work" in capsys.readouterr().err
    output = tmp_path / "output.json"
    assert generic.main(["--environments", "--output", str(output)]) == 2
    assert "nothing to train" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    given = ["--environments", "FrozenLake-v1", "--timesteps", "1000", "--work", str(file / "work")]
    assert generic.main([*given, "--output", str(output)]) == 2
    assert "can't be written: Not a directory. Give another --work" in capsys.readouterr().err
    assert not output.exists()
