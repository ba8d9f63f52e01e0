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
from ppo_and_friends.common.nested import parts, pick
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import Friend
from ppo_and_friends.policy.export import export_onnx, exported_transform
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from ppo_and_friends.vector.space_descriptions import restore
from tests.engine import Identity, experiment
from tests.friends.runs import drift
from tests.networks.test_joint import MIXED
from tests.test_trained_policy import Parts, saved

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")


def exported(
    folder: Path,
    make: Any,
    *friends: Any,
    squash: bool = False,
    gain: float = 2.0,
    hidden: tuple[int, ...] = (8,),
) -> tuple[Any, Any]:
    """A trained policy and the session of its ONNX file."""
    network = NetworkSettings(
        actor_hidden=hidden, critic_hidden=(8,), actor_output_gain=gain, squash=squash, activation="elu"
    )
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
def test_a_nested_action_space_has_an_output_for_each_part(tmp_path: Path) -> None:
    policy, session = exported(tmp_path, lambda: Identity(MIXED))
    observations = np.random.default_rng(1).normal(size=(7, policy.observation_space.shape[0]))
    observations = observations.astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    assert names == ["actions.move", "actions.mode.0", "actions.mode.1", "actions.keys"]
    actions = session.run(None, {"observations": observations})
    expected = policy(observations)
    for (path, _), found in zip(parts(MIXED), actions, strict=True):
        np.testing.assert_allclose(found, pick(expected, path), rtol=1e-5, atol=1e-5)
    assert MIXED.contains(policy(observations[0]))


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
def test_wide_layers_take_any_number_of_rows(tmp_path: Path) -> None:
    # So wide that a few rows go by oneDNN in training.
    policy, session = exported(tmp_path, lambda: Identity(spaces.Box(-1.0, 1.0, (350,))), hidden=(512, 256))
    for rows in (1, 2, 40):
        observations = np.random.default_rng(rows).normal(size=(rows, 350)).astype(np.float32)
        (actions,) = session.run(None, {"observations": observations})
        np.testing.assert_allclose(actions, policy(observations), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_images(tmp_path: Path) -> None:
    policy, session = exported(tmp_path, drift(spaces.Discrete(4), image=True))
    images = np.random.default_rng(0).integers(0, 256, (64, 2, 36, 36)).astype(np.uint8)
    (actions,) = session.run(None, {"observations": images})
    np.testing.assert_array_equal(actions, policy(images))
    assert len(set(actions.tolist())) > 1


def test_what_is_not_known_as_a_module_is_refused(tmp_path: Path) -> None:
    class Doubled(Friend):
        def transform(self, observations: Any, history: Any) -> Any:
            return 2 * observations

    with pytest.raises(UsageError, match=r"Doubled can't be exported.*\n.*exported_transform"):
        exported_transform(Doubled())


def fed(session: Any, observation: Any) -> dict[str, Any]:
    """An observation, or a dict of its parts, as the session's inputs: a batch of one."""
    if not isinstance(observation, dict):
        return {"observations": np.asarray(observation)[None]}
    return {f"observations.{key}": np.asarray(part)[None] for key, part in observation.items()}


def begin(session: Any) -> dict[str, Any]:
    """The states where an episode begins."""
    given = session.get_inputs()
    types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    return {
        one.name: np.zeros((1, one.shape[1]), types[one.type]) for one in given if one.name[:6] == "state."
    }


HISTORY, PREVIOUS, NORMALIZER = (
    friend(name) for name in ("ObservationHistory", "PreviousAction", "ObservationNormalizer")
)
REMEMBERING: dict[str, tuple[Any, tuple[Any, ...], bool]] = {
    "history": (drift(), (NORMALIZER, HISTORY), False),
    "previous action": (drift(), (PREVIOUS, NORMALIZER), True),
    "both": (drift(spaces.MultiDiscrete([3, 2])), (NORMALIZER, PREVIOUS, HISTORY), False),
    "parts": (Parts, (HISTORY, PREVIOUS, friend("ObservationClip", limit=3.0)), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REMEMBERING)
def test_whole_episodes_of_policies_that_remember(tmp_path: Path, case: str) -> None:
    make, friends, squash = REMEMBERING[case]
    policy, session = exported(tmp_path, make, *friends, squash=squash)
    outputs = [one.name for one in session.get_outputs()]
    following = json.loads(session.get_modelmeta().custom_metadata_map["states"])
    assert outputs == ["actions", *following.values()] and len(following) in (1, 2)
    env, chosen = make(), []
    for seed in (1, 2):  # in the second episode, what was in the first must be forgotten
        observation, _ = env.reset(seed=seed)
        policy.reset()
        states, over, steps = begin(session), False, 0
        while not over:
            results = dict(zip(outputs, session.run(None, fed(session, observation) | states), strict=True))
            action = policy(observation)
            np.testing.assert_allclose(results["actions"][0], action, rtol=1e-4, atol=1e-4)
            states = {name: results[following[name]] for name in following}
            observation, _, ended, cut, _ = env.step(action)
            over, steps = ended or cut, steps + 1
            chosen.append(np.array(action))
        assert steps >= 7
    assert len(np.unique(chosen, axis=0)) > 1


@pytest.mark.slow
def test_rows_begin_their_episodes_on_their_own(tmp_path: Path) -> None:
    policy, session = exported(tmp_path, drift(), HISTORY)
    rows = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)  # [step, row, obs]
    state = np.zeros((2, 4 * 3 + 1), np.float32)
    for t in range(3):
        if t == 2:
            state[1] = 0.0  # the second row's episode ended
        actions, state = session.run(None, {"observations": rows[t], "state.ObservationHistory": state})
    for row, steps in ((0, (0, 1, 2)), (1, (2,))):
        policy.reset()
        expected = [policy(rows[t][row]) for t in steps][-1]
        np.testing.assert_allclose(actions[row], expected, atol=1e-5)


class Kinds(Identity):
    """Observes categories and numbers, nested."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(3))
        self.observation_space: Any = spaces.Tuple(
            (
                spaces.Discrete(4, start=-1),
                spaces.Dict({"grid": spaces.MultiDiscrete([[2, 3], [4, 5]]), "on": spaces.MultiBinary(2)}),
                spaces.Box(-1.0, 1.0, (2, 2)),
            )
        )

    def _observe(self) -> Any:
        return self.observation_space.sample()


@pytest.mark.slow
def test_parts_of_every_kind_have_inputs_of_their_own(tmp_path: Path) -> None:
    policy, session = exported(tmp_path, Kinds)
    names = ["observations.0", "observations.1.grid", "observations.1.on", "observations.2"]
    assert [one.name for one in session.get_inputs()] == names
    described = json.loads(session.get_modelmeta().custom_metadata_map["inputs"])
    assert restore(described["observations.1.grid"]) == spaces.MultiDiscrete([[2, 3], [4, 5]])
    space = Kinds().observation_space
    space.seed(0)
    drawn = [space.sample() for _ in range(20)]
    parts = [(one[0], one[1]["grid"], one[1]["on"], one[2]) for one in drawn]
    batch = {name: np.stack(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}
    (actions,) = session.run(None, batch)
    assert actions.tolist() == [int(policy(one)) for one in drawn] and len(set(actions.tolist())) > 1


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match="pip install onnx onnxscript"):
        exported(tmp_path, drift())
