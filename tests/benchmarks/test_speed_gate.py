"""The speed gate's arithmetic, and that it fails what is slow."""

from __future__ import annotations

import pytest

from benchmarks import speed_gate
from benchmarks.speed_gate import FLOORS, cpu_seconds, share


def test_each_sides_best_round_counts() -> None:
    # 2 us a training step and 1 us an engine's at best; a disturbed round of either changes nothing.
    rounds = [(2e-6, 1.5e-6), (2.5e-6, 1e-6), (50e-6, 90e-6)]
    assert share(rounds) == pytest.approx(0.5)


def test_waiting_is_not_counted() -> None:
    import time

    assert cpu_seconds(lambda: time.sleep(0.2)) < 0.1
    assert cpu_seconds(lambda: sum(range(1_000_000))) > 0.001


@pytest.mark.parametrize(("cost", "status"), [(0.9, 0), (1.1, 1)])
def test_below_the_floor_it_fails(
    cost: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Training that costs so many times what the floor allows.
    floor = FLOORS["CartPole"]
    monkeypatch.setattr(speed_gate, "measure", lambda name, rounds: [(cost / floor, 1.0)] * rounds)
    monkeypatch.setattr(speed_gate, "one_core", lambda: None)
    assert speed_gate.main(["--environments", "CartPole"]) == status
    assert ("TOO SLOW" in capsys.readouterr().out) == bool(status)


def test_without_a_floor_it_only_measures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_gate, "measure", lambda name, rounds: [(1000.0, 1.0)] * rounds)
    monkeypatch.setattr(speed_gate, "one_core", lambda: None)
    assert speed_gate.main(["--environments", "Hopper"]) == 0
    assert "Hopper: 0.001 of the bare engine's rate, no floor" in capsys.readouterr().out
