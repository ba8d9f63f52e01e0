"""Policies that come with the project: they load, and reach what is written beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.runs import ROOT
from ppo_and_friends import evaluate
from ppo_and_friends.cli.request import Request
from ppo_and_friends.cli.test import load_trained
from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.pretrained import pretrained_folder, pretrained_names
from ppo_and_friends.runs.saved_experiment import load_experiment

EPISODES = 3


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    for name in ("CartPole", "Pendulum"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment.json").write_text("{}")
    assert pretrained_names((tmp_path,)) == ["CartPole", "Pendulum"]
    assert pretrained_folder("Pendulum", (tmp_path / "missing", tmp_path)) == tmp_path / "Pendulum"
    with pytest.raises(UsageError, match="CartPole"):
        pretrained_folder("Cartpool", (tmp_path,))
    with pytest.raises(UsageError, match="None are installed"):
        pretrained_folder("CartPole", (tmp_path / "missing",))


def test_no_shipped_file_is_large() -> None:
    for path in (ROOT / "results" / "policies").rglob("*"):
        assert not path.is_file() or path.stat().st_size < 8_000_000, path


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained_names())
def test_every_shipped_policy_reaches_its_recorded_score(name: str) -> None:
    folder = pretrained_folder(name)
    score = json.loads((folder / "score.json").read_bytes())
    policy, checkpoint = load_trained(Request(load_experiment(folder), folder))
    assert (policy.experiment.name, checkpoint.timesteps) == (name, score["timesteps"])
    assert not any(key.startswith("optimizer.") for key in checkpoint.tensors)
    outcome = evaluate(policy, EPISODES, seed=score["evaluation_seed"])
    # The same beginnings as then; a simulator may round otherwise on another machine.
    again = np.isclose(outcome.returns, score["first_scores"][:EPISODES], rtol=0.05, atol=1.0)
    margin = max(4 * score["std"] / np.sqrt(EPISODES), 0.05 * abs(score["mean"]), 1.0)
    assert again.all() or abs(outcome.mean - score["mean"]) <= margin
