"""Parity's bookkeeping: what is trained isn't trained again, and both sides get the same settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import parity
from benchmarks.parity import report
from benchmarks.report import MeasurementError
from benchmarks.runs import Run

FAKE_PEER = """
import json, sys
from pathlib import Path
spec = json.loads(Path(sys.argv[1]).read_text())
assert spec["seed"] in (1, 2) and spec["threads"] == 1
rows = [[n, 0.1, 20.0 + n / 100] for n in range(1000, spec["n_timesteps"] + 1, 1000)]
Path(sys.argv[2]).write_text(json.dumps({"curve": [[steps, steps / 500, score] for steps, _, score in rows]}))
"""


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For two short runs; the peer is a script that takes and gives what the real one does."""
    place = tmp_path / "scripts"
    place.mkdir()
    (place / "peer_sb3.py").write_text(FAKE_PEER)
    monkeypatch.setattr(parity.measure, "HERE", place)
    given = ["--environments", "CartPole", "--seeds", "1", "2", "--timesteps", "9000"]
    given += ["--peer_python", sys.executable]
    return [*given, "--work", str(tmp_path / "work"), "--output", str(tmp_path / "results")]


def test_it_trains_once_and_reports(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity.main(arguments) == 0
    sides = json.loads((tmp_path / "results" / "parity.json").read_text())["curves"]["CartPole"]
    assert len(sides["ours"]) == len(sides["theirs"]) == 2
    assert sides["ours"][0] != sides["ours"][1] and sides["ours"][0][-1][0] >= 9000
    assert (tmp_path / "results" / "parity.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "SB3, CartPole seed 2: begins" in said and "| CartPole |" in said
    assert parity.main(arguments) == 0
    assert "begins" not in capsys.readouterr().out, "it trained again"
    answer = parity.their_result(
        Run.of("CartPole", 2, tmp_path, parity.plain_changes("CartPole", 9000)), tmp_path / "work" / "sb3"
    )
    answer.unlink()
    assert parity.main(arguments) == 0
    said = capsys.readouterr().out
    assert "SB3, CartPole seed 2: begins" in said and "seed 1: begins" not in said
    assert "3 of 4 runs were done before" in said
    # Other settings: both sides are trained again.
    assert parity.main([*arguments, "--timesteps", "5000"]) == 0
    assert capsys.readouterr().out.count("begins") == 4
    sides = json.loads((tmp_path / "results" / "parity.json").read_text())["curves"]["CartPole"]
    assert sides["theirs"][0][-1][0] == 5000 and sides["ours"][0][-1][0] < 9000


def test_a_peer_that_fails_is_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scripts" / "peer_sb3.py").write_text("raise SystemExit('no torch')")
    assert parity.main([*arguments, "--timesteps", "4096"]) == 1
    assert "SB3, CartPole seed 1 failed: no torch" in capsys.readouterr().err


def test_mistakes_are_told(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = arguments[arguments.index("--work") :]
    for given, message in [
        (["--environments", "CartPoole", *folders], "unknown environment 'CartPoole'"),
        (["--environments", "Pendulum", *folders], "Pendulum has no usual budget here: give --timesteps."),
        (["--timesteps", "1000"], "Other timesteps go elsewhere"),
        (["--peer_python", "nowhere"], "nowhere is missing"),
        (["--report-only", "--output", str(tmp_path / "none")], "is missing: there is nothing to report"),
    ]:
        assert parity.main(given) != 0
        assert message in capsys.readouterr().err
    with pytest.raises(MeasurementError, match="nothing to compare"):
        report({"A": {"ours": [[[100.0, None]]], "theirs": [[[100.0, 1.0]]]}}, {}, tmp_path)


def test_curves_that_differ_are_said_to(tmp_path: Path) -> None:
    x = np.linspace(0, 1000, 20)
    low, high = ([[[a, level + 0.1 * seed] for a in x] for seed in range(3)] for level in (1.0, 5.0))
    assert "**no**" in report({"A": {"ours": low, "theirs": high}}, {}, tmp_path)
    assert "| yes |" in report({"A": {"ours": low, "theirs": low}}, {}, tmp_path)
