"""Small training runs on toys, for tests of friends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    FriendSpec,
    NetworkSettings,
    PPOSettings,
)
from ppo_and_friends.vector.factory import make_vector_env


class Drift(gymnasium.Env[Any, Any]):
    """A point in 3 dimensions that drifts by random steps; episodes of 7 steps end either way."""

    def __init__(self, action_space: Any = None, image: bool = False) -> None:
        self.image = image
        self.push = 0.1
        self.observation_space = (
            spaces.Box(0, 255, (2, 36, 36), np.uint8) if image else spaces.Box(-np.inf, np.inf, (3,))
        )
        self.action_space = action_space or spaces.Box(-1.0, 1.0, (2,))

    def _observe(self) -> Any:
        if not self.image:
            return self.place.astype(np.float32)
        shifted = np.arange(36 * 36).reshape(36, 36) + int(np.abs(self.place[0] * 50))
        return np.stack([shifted, shifted.T]).astype(np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.t = self.np_random.normal(size=3), 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        push = float(np.sum(action))
        self.place = self.place + self.np_random.normal(size=3) * 0.1 + self.push * push
        over = self.t == 7
        ending = bool(self.place[1] > 0)
        return self._observe(), push - float(self.place[0]) ** 2, over and ending, over and not ending, {}


def drift(action_space: Any = None, image: bool = False) -> Callable[..., Any]:
    return lambda: Drift(action_space, image)


def experiment(
    friends: Sequence[FriendSpec] = (), make: Callable[..., Any] | None = None, **settings: Any
) -> Experiment:
    ppo = {"rollout_timesteps": 80, "minibatch_size": 40, "epochs": 2} | settings.pop("ppo", {})
    network = {"actor_hidden": (8,), "critic_hidden": (8,)} | settings.pop("network", {})
    return Experiment(
        name="Toy",
        environment=EnvironmentSettings(id="Toy-v0", num_envs=5, backend="gymnasium", factory=make or Drift),
        ppo=PPOSettings(**ppo),
        network=NetworkSettings(**network),
        friends=tuple(friends),
        device="cpu",
        **({"num_timesteps": 10_000} | settings),
    )


def build(chosen: Experiment, communicator: Communicator | None = None, folder: Any = None) -> Trainer:
    communicator = communicator or SoloCommunicator()
    layout = divide(chosen.environment.num_envs, communicator.rank, communicator.size)
    envs = make_vector_env(chosen.environment, layout, 1, chosen.agents)
    return build_trainer(chosen, communicator, envs, folder)


def trained(
    chosen: Experiment, iterations: int = 2, communicator: Communicator | None = None
) -> tuple[Trainer, dict[str, float]]:
    """A trainer after some iterations, and the last one's metrics."""
    trainer = build(chosen, communicator)
    stats: dict[str, float] = {}
    for _ in range(iterations):
        stats = trainer.train_iteration()
    return trainer, stats


def on_ranks(chosen: Experiment, size: int, iterations: int = 3) -> list[dict[str, np.ndarray]]:
    """Every rank's tensors after some iterations."""

    def run(communicator: Communicator) -> dict[str, np.ndarray]:
        trainer, _ = trained(chosen, iterations, communicator)
        return {name: t.detach().numpy().copy() for name, t in trainer.agent.tensors().items()}

    return run_threaded(size, run)


def assert_same_on_any_ranks(chosen: Experiment, sizes: Sequence[int] = (2, 3)) -> None:
    """Equal on all ranks bit for bit, and on any number of ranks to rounding (in float64)."""
    from dataclasses import replace

    chosen = replace(chosen, precision="float64")
    alone = on_ranks(chosen, 1)[0]
    for size in sizes:
        every = on_ranks(chosen, size)
        for tensors in every:
            for name, value in tensors.items():
                np.testing.assert_array_equal(value, every[0][name], err_msg=name)
                np.testing.assert_allclose(value, alone[name], rtol=1e-8, atol=1e-9, err_msg=name)
