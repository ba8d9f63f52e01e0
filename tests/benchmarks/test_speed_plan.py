"""What the speed benchmark compares: both sides do the same work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import measurements, peer_setup, speed
from ppo_and_friends.settings.registry import resolve


def test_small_minibatches_are_the_same_work_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def ours(spec: Any, ranks: int, **how: Any) -> dict[str, Any]:
        return asked.setdefault("ours", spec) and {"steps_per_second": 1.0}

    def sb3(python: Path, spec: Any, **how: Any) -> dict[str, Any]:
        return asked.setdefault("theirs", spec) and {"steps_per_second": 1.0}

    monkeypatch.setattr(measurements, "ours", ours)
    monkeypatch.setattr(measurements, "sb3", sb3)
    monkeypatch.setattr(speed, "peer_python", lambda name, folder: Path("python"))
    columns = speed.plan(resolve("HalfCheetah"), speed.Options(peers=True))
    columns["ours, minibatch 64, 10 epochs"]()
    columns["SB3, minibatch 64, 10 epochs"]()
    mine, other = asked["ours"], asked["theirs"]
    assert mine["set"][-2:] == speed.SMALL and "AdaptiveLearningRate" in mine["without"]
    assert (other["ppo"]["batch_size"], other["ppo"]["n_epochs"]) == (64, 10)
    assert other["net"]["pi"] == [64, 64] and "network.actor_hidden=64,64" in mine["set"]
    assert other["n_envs"] == 8 and "environment.num_envs=8" in mine["set"]


def test_a_peer_made_for_other_packages_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(peer_setup.venv, "create", lambda place, **how: place.mkdir() or made.append("venv"))
    monkeypatch.setattr(peer_setup, "STEPS", {"sb3": ((),)})

    class Done:
        returncode = 0

    monkeypatch.setattr(peer_setup.subprocess, "run", lambda *_, **__: made.append("pip") or Done())
    peer_setup.peer_python("sb3", tmp_path)
    peer_setup.peer_python("sb3", tmp_path)
    assert made == ["venv", "pip"]
    monkeypatch.setattr(peer_setup, "STEPS", {"sb3": (("imageio",),)})
    peer_setup.peer_python("sb3", tmp_path)
    assert made == ["venv", "pip", "pip"]
