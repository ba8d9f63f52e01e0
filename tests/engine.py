"""Small experiments on toy environments, run whole on one rank or several threaded ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from ppo_and_friends.common.nested import parts, pick
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import divide
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
from ppo_and_friends.vector.wrappers import LIFE_LOST

T = TypeVar("T")

# Two cores are shared by ranks that are threads; more threads for each only cost time.
torch.set_num_threads(1)


class Episodes(gymnasium.Env[Any, Any]):
    """Observes [episode, t]; rewards t whatever is done; episode k of ``lengths`` ends as ``ending`` says."""

    def __init__(self, lengths: tuple[int, ...] = (3,), ending: str = "truncated") -> None:
        self.lengths, self.ending = lengths, ending
        self.gain = 1.0  # without effect
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.episode, self.t = -1, 0

    def _observe(self) -> Any:
        return np.array([self.episode, self.t], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.episode = -1
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t >= self.lengths[self.episode % len(self.lengths)]
        ended = over and self.ending == "terminated"
        info = {LIFE_LOST: self.ending == "life" and self.t % 2 == 0}
        return self._observe(), float(self.t), ended, over and not ended, info


class Identity(gymnasium.Env[Any, Any]):
    """The observation names an action; taking it gives most reward. 8 steps an episode."""

    def __init__(self, action_space: spaces.Space[Any], low: Any = None, high: Any = None) -> None:
        """Targets of a Box are between ``low`` and ``high``, its bounds if these are finite."""
        self.action_space = copy.deepcopy(action_space)  # whose generator is this environment's own
        self.gain = 1.0
        if isinstance(action_space, spaces.Box):
            low = action_space.low if low is None else np.full(action_space.shape, low)
            high = action_space.high if high is None else np.full(action_space.shape, high)
            self._low, self._high = np.float64(low), np.float64(high)
        self._parts = list(parts(action_space))
        size = max(1, spaces.utils.flatdim(action_space))
        self.observation_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        self._t = 0
        self._target: Any = None

    def _observe(self) -> Any:
        if isinstance(self.action_space, spaces.Box):
            share = np.asarray(self.np_random.uniform(-1.0, 1.0, self.action_space.shape))
            self._target = self._low + (share + 1.0) / 2.0 * (self._high - self._low)
            return np.asarray(share, np.float32).reshape(-1)
        self._target = self.action_space.sample()
        return np.asarray(spaces.flatten(self.action_space, self._target), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.action_space.seed(seed)
        self._t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        if isinstance(self.action_space, spaces.Box):
            reward = -float(np.mean(np.abs(action - self._target) / (self._high - self._low)))
        else:
            each = [_hits(part, pick(action, path), pick(self._target, path)) for path, part in self._parts]
            reward = float(np.mean(each))
        self._t += 1
        return self._observe(), self.gain * reward, False, self._t >= 8, {}


def _hits(space: spaces.Space[Any], action: Any, target: Any) -> float:
    """Share of the choices that were right; of numbers, 1 minus the mean distance in ranges."""
    if isinstance(space, spaces.Box):
        return float(1.0 - np.mean(np.abs(action - target) / (space.high - space.low)))
    return float(np.mean(np.asarray(action) == np.asarray(target)))


def experiment(
    environment: EnvironmentSettings | Callable[..., Any] | str,
    friends: tuple[FriendSpec, ...] = (),
    num_envs: int = 16,
    network: NetworkSettings | None = None,
    precision: str = "float32",
    num_timesteps: int = 100_000,
    **ppo: Any,
) -> Experiment:
    """A small experiment: on a toy's maker, a Gymnasium id, or whole settings."""
    if isinstance(environment, str):
        environment = EnvironmentSettings(id=environment, num_envs=num_envs)
    elif not isinstance(environment, EnvironmentSettings):
        environment = EnvironmentSettings(
            id="Toy-v0", factory=environment, num_envs=num_envs, backend="gymnasium"
        )
    return Experiment(
        name="test",
        environment=environment,
        num_timesteps=num_timesteps,
        ppo=PPOSettings(**({"rollout_timesteps": 512, "minibatch_size": 128, "epochs": 2} | ppo)),
        network=network or NetworkSettings(actor_hidden=(16,), critic_hidden=(16,)),
        friends=friends,
        device="cpu",
        precision=precision,  # type: ignore[arg-type]
    )


def on_ranks(settings: Experiment, size: int, work: Callable[[Trainer, Communicator], T]) -> list[T]:
    """What ``work`` gives for the trainer of each of ``size`` ranks."""

    def rank(communicator: Communicator) -> T:
        layout = divide(settings.environment.num_envs, communicator.rank, communicator.size)
        with closing(make_vector_env(settings.environment, layout, 1, settings.agents)) as envs:
            return work(build_trainer(settings, communicator, envs), communicator)

    return run_threaded(size, rank)


def trained(trainer: Trainer, communicator: Communicator, iterations: int) -> tuple[Trainer, list[Any]]:
    """The trainer after some iterations, and their metrics."""
    return trainer, [trainer.train_iteration() for _ in range(iterations)]


def train(settings: Experiment, iterations: int, size: int = 1) -> list[tuple[Trainer, list[Any]]]:
    """Every rank's trainer after some iterations, and its metrics."""
    return on_ranks(settings, size, partial(trained, iterations=iterations))
