"""With environments that begin each rollout afresh, a resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import load_latest, save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from tests.friends.runs import build, drift, experiment
from tests.friends.test_together import compatible, spec


def state(trainer: Trainer) -> dict[str, Any]:
    named = trainer.agent.tensors() | trainer.optimizer.state()
    return {name: tensor.detach().numpy().copy() for name, tensor in named.items()}


def check(names: list[str], tmp_path: Path, space: Any = None) -> None:
    friends = [spec(name, space) for name in dict.fromkeys([*names, "HardReset"])]
    chosen = experiment(friends, drift(space))
    whole = build(chosen)
    for _ in range(4):
        expected_metrics = whole.train_iteration()
    first = build(chosen)
    for _ in range(2):
        first.train_iteration()
    save_checkpoint(tmp_path, first.timesteps, *capture(first, 1.0))
    saved = load_latest(tmp_path)
    assert saved is not None
    second = build(chosen)
    assert restore_trainer(second, saved) == []
    for _ in range(2):
        metrics = second.train_iteration()
    expected = state(whole)
    for name, value in state(second).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    for name in metrics:
        if not name.startswith("time"):
            np.testing.assert_equal(metrics[name], expected_metrics[name], err_msg=name)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_alone(name: str, tmp_path: Path) -> None:
    check([name], tmp_path)


@pytest.mark.parametrize("draw", range(4))
def test_together(draw: int, tmp_path: Path) -> None:
    random = np.random.default_rng(100 + draw)
    space = [spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)][draw % 2]
    names = random.permutation(sorted(BUILT_IN)).tolist()
    check(compatible(["HardReset", *names[:12]], space), tmp_path, space)
