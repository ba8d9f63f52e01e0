"""A critic that sees more than the actor: in training alone, normalised on its own, and not needed later."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends import load_policy
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.evaluate import evaluate
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings, friend
from tests.engine import experiment, on_ranks
from tests.friends.test_together import spec
from tests.test_trained_policy import saved


class Hidden(gymnasium.Env[Any, Any]):
    """Shows noise, to the critic also the time, on which the return depends: 6 steps, a reward of 1 each."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            time=spaces.Box(-np.inf, np.inf, (1,)), noise=spaces.Box(-np.inf, np.inf, (2,))
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,))
        self.t, self.limit = 0, 6

    def _observe(self) -> Any:
        return {
            "time": np.array([self.t], np.float32),
            "noise": self.np_random.normal(size=2).astype(np.float32),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._observe(), 1.0, self.t == self.limit, False, {}


def settings(
    *friends: Any, keys: tuple[str, ...] = ("time",), backend: Any = "gymnasium", **network: Any
) -> Experiment:
    environment = EnvironmentSettings(
        id="Toy-v0", factory=Hidden, num_envs=6, backend=backend, critic_observations=keys
    )
    chosen = NetworkSettings(**{"actor_hidden": (16,), "critic_hidden": (16,)} | network)
    sizes: dict[str, Any] = {"num_envs": 6, "rollout_timesteps": 6 * 32, "minibatch_size": 48, "epochs": 4}
    return experiment(environment, friends, network=chosen, precision="float64", learning_rate=1e-2, **sizes)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_actor_and_critic_see_what_is_theirs(backend: str) -> None:
    def work(trainer: Trainer, _: Any) -> None:
        rollout = trainer.collect()
        seen, critic = rollout.observations["policy"], rollout.observations["critic"]
        assert seen.shape[-1] == 2 and critic.shape[-1] == 3
        torch.testing.assert_close(critic[..., 1:], seen)  # in the order of the keys
        # 6 steps and a reset: 0 to 6, then 0 again.
        assert critic[:15, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6] * 2 + [0]

    on_ranks(settings(backend=backend), 1, work)


@pytest.mark.parametrize("memory", [None, "lstm"])
def test_the_value_depends_on_what_the_critic_alone_sees(memory: str | None) -> None:
    """With the time the return is known; the noise says nothing of it."""

    def work(trainer: Trainer, _: Any) -> float:
        return [trainer.train_iteration() for _ in range(25)][-1]["explained_variance"]

    (privileged,) = on_ranks(settings(memory=memory), 1, work)
    assert privileged > 0.8
    if memory is None:
        (blind,) = on_ranks(settings(keys=(), actor_hidden=(16,)), 1, work)
        assert blind > 0.8  # all see the time
        (neither,) = on_ranks(settings(), 1, lambda trainer, _: _without_time(trainer))
        assert neither < 0.2


def _without_time(trainer: Trainer) -> float:
    transformed = trainer.friends.transform_critic
    trainer.friends.transform_critic = lambda seen: transformed(seen) * [0.0, 1.0, 1.0]  # type: ignore[method-assign]
    return [trainer.train_iteration() for _ in range(25)][-1]["explained_variance"]


def test_its_observations_are_normalised_and_clipped_on_their_own() -> None:
    def work(trainer: Trainer, _: Any) -> None:
        first = trainer.collect().observations["critic"][:-1].clone()
        tensors = trainer.friends.tensors()
        mean, variance = (tensors[f"ObservationNormalizer.critic.{name}"] for name in ("mean", "variance"))
        flat = first.flatten(0, 1)
        torch.testing.assert_close(mean, flat.mean(0))
        torch.testing.assert_close(variance, flat.var(0, correction=0))
        second = trainer.collect().observations["critic"]
        assert abs(float(second[..., 0].mean())) < 0.2 and second.abs().max() > 1.5

    on_ranks(settings(friend("ObservationNormalizer")), 1, work)

    def clipped(trainer: Trainer, _: Any) -> None:
        assert trainer.collect().observations["critic"].abs().max() == 1.5

    on_ranks(settings(friend("ObservationClip", limit=1.5)), 1, clipped)


def test_the_number_of_ranks_does_not_matter() -> None:
    def work(trainer: Trainer, _: Any) -> dict[str, Any]:
        for _ in range(3):
            trainer.train_iteration()
        return {name: tensor.detach().numpy().copy() for name, tensor in trainer.agent.tensors().items()}

    chosen = settings(friend("ObservationNormalizer"), memory="gru")
    (alone,) = on_ranks(chosen, 1, work)
    for found in on_ranks(chosen, 3, work):
        for name, value in found.items():
            np.testing.assert_allclose(value, alone[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_loaded_policy_is_played_without_them(tmp_path: Path) -> None:
    chosen = settings(friend("ObservationNormalizer"), memory="lstm")
    saved(tmp_path, chosen, 1)
    policy = load_policy(tmp_path, trust=True)
    assert policy.observation_space == spaces.Dict(noise=spaces.Box(-np.inf, np.inf, (2,)))
    assert policy.action_space.contains(policy({"noise": np.zeros(2, np.float32)}))
    found = evaluate(policy.agent.policy(), chosen.environment, episodes=2, seed=1)
    assert found.returns.tolist() == [6.0, 6.0]


@pytest.mark.slow
def test_the_exported_policy_takes_the_actors_part_alone(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from ppo_and_friends.policy.export import export_onnx

    saved(tmp_path, settings(friend("ObservationNormalizer"), memory="gru", memory_width=5), 1)
    path = export_onnx(load_policy(tmp_path, trust=True), tmp_path / "policy.onnx")
    inputs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()
    assert {each.name: each.shape[1] for each in inputs} == {"observations.noise": 2, "state.memory": 5}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_friend_works_with_it_or_refuses_by_name(name: str) -> None:
    chosen = spec(name)
    if name == "SymmetryAugmentation":
        chosen = friend(name, observation=(-1, 2), action=(-1,))
    if name in ("Curriculum", "DomainRandomisation"):
        chosen = friend(name, attributes={"limit": (3, 5, 7) if name[0] == "D" else 5})
    run = partial(on_ranks, settings(chosen), 1)
    if name == "SymmetryAugmentation":
        with pytest.raises(UsageError, match="can't mirror what the critic alone sees"):
            run(lambda trainer, _: None)
        return
    (stats,) = run(lambda trainer, _: [trainer.train_iteration() for _ in range(2)][-1])
    assert np.isfinite([stats["policy_loss"], stats["value_loss"]]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ("tide",)}, r"there is no 'tide' in the observation; its keys are time, noise"),
        ({"keys": ("time", "noise")}, "leaves the actor none"),
        ({"shared": True}, "can't share layers"),
        ({"memory": "lstm", "memory_shared": True}, "can't share layers"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        on_ranks(settings(**changes), 1, lambda trainer, _: None)
    with pytest.raises(UsageError, match="is no Dict, so it has no keys"):
        plain = EnvironmentSettings(id="CartPole-v1", critic_observations=("speed",))
        on_ranks(experiment(plain), 1, lambda trainer, _: None)
