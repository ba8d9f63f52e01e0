"""An agent really learns: each kind of action space, CartPole, and every launcher starts."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.evaluation.evaluate import evaluate
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings, NetworkSettings, friend, linear
from ppo_and_friends.settings.registry import Launcher, all_launchers, resolve
from ppo_and_friends.vector.factory import make_vector_env
from tests.engine import Identity, experiment, on_ranks
from tests.environments.test_launchers import package_of

INF = np.inf
ITERATIONS = 20
# Best mean reward a step is 1 for choices and 0 (minus the relative error) for numbers.
IDENTITIES: dict[str, tuple[Any, bool, float]] = {
    "Discrete": (partial(Identity, spaces.Discrete(4)), False, 0.95),
    "Discrete from -2": (partial(Identity, spaces.Discrete(4, start=-2)), False, 0.95),
    "MultiDiscrete": (partial(Identity, spaces.MultiDiscrete([3, 2])), False, 0.95),
    "MultiDiscrete with starts": (
        partial(Identity, spaces.MultiDiscrete([[3], [2]], start=[[1], [-1]])), False, 0.95
    ),
    "MultiBinary": (partial(Identity, spaces.MultiBinary(3)), False, 0.95),
    "bounded": (partial(Identity, spaces.Box(-2.0, 6.0, (2,))), False, -0.06),
    "squashed": (partial(Identity, spaces.Box(-2.0, 6.0, (2,)), -1.0, 5.0), True, -0.06),
    "half-bounded": (partial(Identity, spaces.Box(0.0, INF, (1,)), 0.0, 2.0), False, -0.06),
    "unbounded": (partial(Identity, spaces.Box(-INF, INF, (1,)), -2.0, 1.0), False, -0.06),
    "scalar": (partial(Identity, spaces.Box(-2.0, 6.0, ())), False, -0.06),
    "integers": (partial(Identity, spaces.Box(-3, 3, (1,), np.int32)), False, -0.09),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTITIES)
def test_it_learns_to_do_as_it_is_told(name: str) -> None:
    environment, squash, wanted = IDENTITIES[name]
    settings = experiment(
        environment,
        (friend("AdvantageNormalizer"),),
        network=NetworkSettings(actor_hidden=(32,), critic_hidden=(32,), squash=squash, log_std_init=-0.5),
        gamma=0.0,
        rollout_timesteps=512,
        minibatch_size=128,
        epochs=8,
        learning_rate=linear(1e-2, 1e-3),
        num_timesteps=ITERATIONS * 512 * 8 // 9,
    )

    def score(trainer: Trainer) -> float:
        found = evaluate(trainer.agent.policy(), settings.environment, episodes=20, seed=5)
        return found.mean / 8.0  # an episode is 8 steps

    def work(trainer: Trainer, _: Any) -> tuple[float, float]:
        before = score(trainer)
        for _ in range(ITERATIONS):
            trainer.train_iteration()
        return before, score(trainer)

    ((before, after),) = on_ranks(settings, 1, work)
    assert before < wanted - 0.1, "it knew without learning"
    assert after >= wanted


@pytest.mark.slow
def test_cart_pole_to_475() -> None:
    settings = resolve("CartPole")
    layout = divide(settings.environment.num_envs, 0, 1)
    with closing(make_vector_env(settings.environment, layout)) as envs:
        trainer = build_trainer(settings, SoloCommunicator(), envs)
        while trainer.timesteps < settings.num_timesteps:
            trainer.train_iteration()
        found = evaluate(trainer.agent.policy(), settings.environment, episodes=20, seed=1000)
    assert found.mean >= 475.0, found.returns.tolist()


OURS = [known for known in all_launchers() if known.build.__module__.startswith("ppo_and_friends.")]
SLOW = ("Pixels", "RAM", "Humanoid")


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(each, marks=[pytest.mark.slow] if any(word in each.name for word in SLOW) else [])
        for each in OURS
    ],
    ids=[each.name for each in OURS],
)
def test_every_launcher_trains_and_tests(known: Launcher) -> None:
    """Two iterations and one episode, with its own network, friends and environment; all else small."""
    settings = known.experiment()
    if settings.environment.api == "petting_zoo":
        pytest.importorskip(package_of(known), reason="it is an extra, which isn't installed")
    if settings.agents.several:
        pytest.skip("several policies are trained by tests/agents/test_policies.py")
    limit = 60 if settings.environment.atari is None else None
    environment = dataclasses.replace(settings.environment, num_envs=2)
    ppo = dataclasses.replace(
        settings.ppo, rollout_timesteps=32, minibatch_size=16, epochs=2, sequence_length=None
    )
    settings = dataclasses.replace(settings, environment=environment, ppo=ppo)

    def work(trainer: Trainer, _: Any) -> Any:
        start = trainer.optimizer.parameters.clone()
        metrics = [trainer.train_iteration() for _ in range(2)]
        assert (trainer.optimizer.parameters != start).any()
        episode = shortened(environment, limit)
        return metrics, evaluate(trainer.agent.policy(), episode, episodes=1, seed=3, max_episode_steps=60)

    ((metrics, found),) = on_ranks(settings, 1, work)
    assert metrics[-1]["gradient_norm"] > 0.0
    for key in ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "gradient_norm"):
        assert np.isfinite(metrics[-1][key]), key
    assert len(found.episodes) == 1 and 1 <= found.episodes[0].length <= 60
    assert np.isfinite(found.mean)


def shortened(environment: EnvironmentSettings, limit: int | None) -> EnvironmentSettings:
    return environment if limit is None else dataclasses.replace(environment, max_episode_steps=limit)
