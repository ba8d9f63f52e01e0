"""ONNX files against the policy itself, in onnxruntime."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends import load_policy
from ppo_and_friends.errors import UsageError
from ppo_and_friends.experiment import NetworkSettings, friend
from ppo_and_friends.export import export_onnx
from ppo_and_friends.space_descriptions import restore
from tests.engine import Identity, experiment
from tests.friends.runs import drift
from tests.test_trained_policy import saved

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")


def exported(
    folder: Path, make: Any, *friends: Any, squash: bool = False, gain: float = 2.0
) -> tuple[Any, Any]:
    """A trained policy and the session of its ONNX file."""
    network = NetworkSettings(actor_hidden=(8,), critic_hidden=(8,), actor_output_gain=gain, squash=squash)
    sizes: dict[str, Any] = {"num_envs": 4, "rollout_timesteps": 64, "minibatch_size": 32, "epochs": 1}
    saved(folder, experiment(make, friends, network=network, **sizes), 1)
    policy = load_policy(folder, trust=True)
    path = export_onnx(policy, folder / "policy.onnx")
    return policy, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


SPACES: list[spaces.Space[Any]] = [
    spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([4.0, 1.0], np.float32)),
    spaces.Box(0, 9, (2, 2), np.int32),
    spaces.Discrete(5, start=3),
    spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -1]),
    spaces.MultiBinary(3),
]


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_are_the_policys_for_every_action_space(tmp_path: Path, space: spaces.Space[Any]) -> None:
    policy, session = exported(tmp_path, lambda: Identity(space))
    size = policy.observation_space.shape[0]
    for rows in (1, 7):  # any number of rows
        observations = np.random.default_rng(rows).normal(size=(rows, size)).astype(np.float32)
        (actions,) = session.run(None, {"observations": observations})
        expected = policy(observations)
        assert actions.dtype == expected.dtype and actions.shape == expected.shape
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_normalisation_and_clipping_are_baked_in(tmp_path: Path) -> None:
    friends = (
        friend("ObservationNormalizer"),
        friend("ObservationClip", limit=1.0),
        friend("RewardNormalizer"),
    )
    policy, session = exported(tmp_path, drift(), *friends, squash=True)
    observations = (3.0 * np.random.default_rng(0).normal(size=(20, 3))).astype(np.float32)
    (actions,) = session.run(None, {"observations": observations})
    np.testing.assert_allclose(actions, policy(observations), atol=1e-5)
    # Far out, everything is clipped to the same input.
    (far,) = session.run(None, {"observations": np.array([[1e3] * 3, [1e6] * 3], np.float32)})
    np.testing.assert_array_equal(far[0], far[1])
    described = session.get_modelmeta().custom_metadata_map
    assert described["environment"] == "Toy-v0" and described["timesteps"] == str(policy.timesteps)
    assert restore(json.loads(described["action_space"])) == policy.action_space
    assert restore(json.loads(described["observation_space"])) == policy.observation_space


@pytest.mark.slow
def test_images(tmp_path: Path) -> None:
    policy, session = exported(tmp_path, drift(spaces.Discrete(4), image=True))
    images = np.random.default_rng(0).integers(0, 256, (64, 2, 36, 36)).astype(np.uint8)
    (actions,) = session.run(None, {"observations": images})
    np.testing.assert_array_equal(actions, policy(images))
    assert len(set(actions.tolist())) > 1


def test_a_friend_that_remembers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PreviousAction can't be exported"):
        exported(tmp_path, drift(), friend("PreviousAction"))
    assert not (tmp_path / "policy.onnx").exists()


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match="pip install onnx onnxscript"):
        exported(tmp_path, drift())
