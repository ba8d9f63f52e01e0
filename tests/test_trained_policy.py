"""A saved policy as a plain object: raw observations, single or batched, nothing heavy imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends import load_policy
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import IncompatibleState, UsageError
from ppo_and_friends.policy.restored_agent import policy_checkpoint, without_missing_friends
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.checkpoint import read_checkpoint, save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, settings_identity
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings, friend
from ppo_and_friends.vector.factory import make_vector_env
from tests.command_line import run
from tests.conftest import clean_environment
from tests.engine import experiment, train


class Parts(gymnasium.Env[Any, Any]):
    """Observes parts of several kinds, in an order that is not the alphabet's."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            OrderedDict([("place", spaces.Box(-5.0, 5.0, (2,))), ("kind", spaces.Discrete(3, start=1))])
        )
        self.action_space = spaces.Box(np.float32([-2.0, 0.0]), np.float32([4.0, 1.0]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def _observe(self) -> Any:
        place = self.np_random.uniform(-5.0, 5.0, 2).astype(np.float32)
        return {"place": place, "kind": np.int64(1 + self.np_random.integers(3))}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._observe(), float(action.sum()), False, self.t == 9, {}


@pytest.mark.parametrize(
    "forged",
    [
        {"actor_hidden": (10**12,)},
        {"critic_hidden": (8, 10**12)},
        {"actor_hidden": (1,) * 10**5},
        {"memory": "lstm", "memory_width": 10**6},
        {"memory": "lstm", "memory_layers": 10**9},
        {"memory": "gru", "memory_width": 10**6, "memory_place": "after"},
    ],
    ids=["width", "second width", "layers", "memory", "layers of memory", "memory behind"],
)
def test_a_policy_that_asks_for_more_than_is_saved_is_refused_at_once(
    forged: dict[str, Any], tmp_path: Path
) -> None:
    settings = experiment(EnvironmentSettings(id="CartPole-v1", num_envs=4))
    trainer = saved(tmp_path, settings, iterations=1)
    checkpoint = policy_checkpoint(trainer)
    assert TrainedPolicy(settings, checkpoint).timesteps == trainer.timesteps
    huge = replace(settings, network=replace(settings.network, **forged))
    identity = {**checkpoint.state["identity"], **settings_identity(huge)}
    with pytest.raises(IncompatibleState, match=r"more than \d[\d,]+ numbers, and \d[\d,]* are saved"):
        TrainedPolicy(huge, replace(checkpoint, state={**checkpoint.state, "identity": identity}))


def saved(folder: Path, settings: Experiment, iterations: int = 2) -> Trainer:
    """A run's folder, as a training session leaves it."""
    ((trainer, _),) = train(settings, iterations)
    save_experiment(folder, settings, ["main.py"])
    save_checkpoint(folder / "checkpoints", trainer.timesteps, *capture(trainer, 1.0))
    return trainer


def plain(environment: str | Any, *friends: Any) -> Experiment:
    """A small experiment whose policy says more than 0 from the start."""
    network = NetworkSettings(actor_hidden=(16,), critic_hidden=(16,), actor_output_gain=0.5)
    sizes = {"num_envs": 4, "rollout_timesteps": 64, "minibatch_size": 32}
    return experiment(environment, friends, network=network, **sizes)  # type: ignore[arg-type]


def test_single_and_batched_with_normalisation_inside(tmp_path: Path) -> None:
    friends = (friend("ObservationNormalizer"), friend("ObservationClip", limit=1.5))
    trainer = saved(tmp_path, plain("Pendulum-v1", *friends))
    policy = load_policy(tmp_path)
    assert policy.timesteps == 128 and policy.action_space == spaces.Box(-2.0, 2.0, (1,), np.float32)
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 3
    batch = policy(rows)
    assert batch.shape == (5, 1) and batch.dtype == np.float32
    for row, action in zip(rows, batch, strict=True):
        np.testing.assert_allclose(policy(row), action, atol=1e-6)
    # The same by hand: (o - mean) / deviation, clipped; the actor; -1..1 scaled to -2..2.
    normalizer = trainer.friends.members["ObservationNormalizer"]
    mean, variance = normalizer.mean.numpy(), normalizer.variance.numpy()
    inputs = np.clip((rows - mean) / np.sqrt(variance + 1e-8), -1.5, 1.5)
    state = {name: t.numpy() for name, t in trainer.network.state_dict().items()}
    hidden = np.tanh(inputs @ state["actor.0.weight"].T + state["actor.0.bias"])
    out = hidden @ state["policy_head.outputs.weight"].T + state["policy_head.outputs.bias"]
    np.testing.assert_allclose(batch, np.clip(2.0 * out, -2.0, 2.0), atol=1e-6)


def test_raw_observations_of_several_parts(tmp_path: Path) -> None:
    saved(tmp_path, plain(Parts))
    policy = load_policy(tmp_path, trust=True)
    assert policy.observation_space == Parts().observation_space
    assert list(policy.observation_space.spaces) == ["place", "kind"]  # type: ignore[attr-defined]
    one = {"place": np.array([1.0, -2.0], np.float32), "kind": np.int64(3)}
    batch = {"place": np.array([[1.0, -2.0], [0.5, 0.5]], np.float32), "kind": np.array([3, 1])}
    assert policy(batch).shape == (2, 2)
    np.testing.assert_allclose(policy(one), policy(batch)[0], atol=1e-6)
    assert policy.action_space.contains(policy(one))
    with pytest.raises(UsageError, match=r'observation\["kind"\] is missing'):
        policy({"place": one["place"]})
    with pytest.raises(UsageError, match="different batch sizes"):
        policy({"place": batch["place"], "kind": np.int64(3)})
    with pytest.raises(UsageError, match=r"has shape \[3\]; expected \[2\], or \[B, 2\] for a batch"):
        policy({"place": np.zeros(3), "kind": 1})


def test_discrete_actions_are_the_environments(tmp_path: Path) -> None:
    saved(tmp_path, plain("CartPole-v1"))
    policy = load_policy(str(tmp_path))
    action = policy(np.zeros(4, np.float32))
    assert policy.action_space.contains(action)
    policy.reset(seed=1)
    drawn = [int(policy(np.zeros(4), deterministic=False)) for _ in range(40)]
    policy.reset(seed=1)
    assert drawn == [int(policy(np.zeros(4), deterministic=False)) for _ in range(40)]
    assert set(drawn) == {0, 1}


def test_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path, plain("CartPole-v1"))
    (checkpoint,) = (tmp_path / "checkpoints").glob("0*")
    assert isinstance(load_policy(checkpoint), TrainedPolicy)


def test_the_best_policy_that_was_kept(tmp_path: Path) -> None:
    """Raw observations in, without a checkpoint of the run beside it."""
    settings = plain(Parts, friend("ObservationNormalizer"), friend("BestPolicyKeeper"))
    save_experiment(tmp_path, settings, ["main.py"])
    with closing(make_vector_env(settings.environment, divide(4, 0, 1))) as envs:
        trainer = build_trainer(settings, SoloCommunicator(), envs, tmp_path)
        trainer.episodes.recent.extend([-1e3] * 100)  # a full window: fewer episodes decide nothing
        trainer.train_iteration()
        trainer.friends.before_checkpoint()
    policy = load_policy(tmp_path / "best", trust=True)
    assert policy.observation_space == Parts().observation_space
    assert policy.timesteps == trainer.timesteps
    observation = {"place": np.array([1.0, -2.0], np.float32), "kind": 2}
    encoded = np.array([[1.0, -2.0, 0.0, 1.0, 0.0]], np.float32)  # kinds are 1, 2 and 3
    np.testing.assert_array_equal(policy(observation), trainer.agent.policy().act({"policy": encoded})[0])


FRIENDS_FILE = """
from ppo_and_friends.friends.friend import Friend

class Logger(Friend):
    def observe(self, step):
        pass

class Doubled(Logger):
    def transform(self, observations, history):
        return 2 * observations
"""


def test_a_friend_that_only_logs_may_be_gone(tmp_path: Path) -> None:
    """One that changes what the policy sees may not, nor one of which nothing is known."""
    module = tmp_path / "friends_of_mine.py"
    module.write_text(FRIENDS_FILE)
    names = {kind: f"{module}:{kind}" for kind in ("Logger", "Doubled")}
    for kind, name in names.items():
        (tmp_path / kind).mkdir()
        saved(tmp_path / kind, plain("CartPole-v1", friend(name)))
    (checkpoint,) = (tmp_path / "Logger" / "checkpoints").glob("0*")
    old = read_checkpoint(checkpoint)
    observation = np.array([0.1, 0.2, 0.0, 0.0], np.float32)
    expected = load_policy(tmp_path / "Logger")(observation)
    module.unlink()
    with pytest.warns(UserWarning, match=r"acts without .*Logger, which can't be imported"):
        assert load_policy(tmp_path / "Logger")(observation) == expected
    with pytest.raises(UsageError, match=r"needs a friend of its training.*Doubled"):
        load_policy(tmp_path / "Doubled")
    old.state.pop("acting_friends")  # as earlier versions wrote it
    with pytest.raises(UsageError, match=r"needs a friend of its training.*Logger"):
        without_missing_friends(plain("CartPole-v1", friend(names["Logger"])), old)


def test_what_a_policy_needs_to_act() -> None:
    kinds = ["ObservationNormalizer", "RewardNormalizer", "PreviousAction", "Evaluator", "RND", "KLEarlyStop"]
    settings = plain("CartPole-v1", *(friend(kind) for kind in kinds))
    ((trainer, _),) = train(settings, 1)
    _, state = capture(trainer, 1.0)
    assert state["acting_friends"] == ["ObservationNormalizer", "PreviousAction", "RND"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No trained policy in"):
        load_policy(tmp_path)


def test_code_is_run_only_with_trust(tmp_path: Path) -> None:
    saved(tmp_path, plain(Parts))
    with pytest.raises(UsageError, match="trust"):
        load_policy(tmp_path)


HEAVY = "mpi4py envpool mujoco ale_py Box2D pygame glfw tensorboard matplotlib cv2"


@pytest.mark.slow
def test_no_mpi_and_no_simulator_is_imported(tmp_path: Path) -> None:
    saved(tmp_path, plain("CartPole-v1", friend("ObservationNormalizer"), friend("KLEarlyStop")))
    script = (
        "import sys\nimport ppo_and_friends\nassert 'torch' not in sys.modules\n"
        f"policy = ppo_and_friends.load_policy({str(tmp_path)!r})\n"
        "assert policy([0.1, 0.2, 0.0, 0.0]) in (0, 1)\n"
        f"found = [name for name in {HEAVY!r}.split() if name in sys.modules]\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_policy(tmp_path: Path) -> None:
    """To look into it would be to wait for somebody who writes."""
    os.mkfifo(tmp_path / "policy.zip")
    done = run("--policy", tmp_path / "policy.zip", "--num_test_runs", "1")
    assert done.status == 2 and "No trained policy in" in done.err
