"""Backends for any Gymnasium environment: stepped in sequence, or each in its own process."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from gymnasium import logger, spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.checks import CheckedEnv
from ppo_and_friends.vector.codec import Encoder, encoders
from ppo_and_friends.vector.protocol import VectorStep
from ppo_and_friends.vector.spaces import check_action_space

Array = NDArray[Any]

LIFE_LOST = "life_lost"


class GymnasiumVectorEnv:
    """Steps the environments in this process, one after another."""

    backend = "gymnasium"
    device = None

    def __init__(self, settings: EnvironmentSettings, layout: Layout) -> None:
        """Create this rank's environments.

        Args:
            settings: The environment.
            layout: This rank's environments.

        Raises:
            UsageError: They can't be created, or their spaces aren't supported or differ.
            EnvironmentFault: An environment's own code raised an exception.
        """
        self.num_envs = layout.local
        self._envs: list[CheckedEnv] = []
        try:
            for i in range(layout.local):
                self._envs.append(_make(settings, layout.first + i))
            first = self._envs[0]
            for env in self._envs[1:]:
                if (env.observation_space, env.action_space) != (first.observation_space, first.action_space):
                    raise UsageError(f"{settings.id}: the environments don't all have the same spaces.")
        except BaseException:
            self.close()
            raise
        self.action_space: spaces.Space[Any] = first.action_space
        self._encoders = encoders(first.observation_space, settings.critic_observations)
        self.encoder = self._encoders["policy"]
        self.observation_space = self.encoder.space
        self.other_spaces: Mapping[str, spaces.Box] = _other_spaces(self._encoders)
        self._arrays = not isinstance(first.action_space, spaces.Discrete)
        self._single_space = first.observation_space
        self._batch: Any = create_empty_array(first.observation_space, n=layout.local)
        self._resets = np.zeros(layout.local, np.bool_)
        self._clip_rewards = settings.atari is not None and settings.atari.clip_rewards

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        self._resets = np.zeros(self.num_envs, np.bool_)
        return self._encode([env.reset(seed=seed + i)[0] for i, env in enumerate(self._envs)])

    def step(self, actions: Array) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        actions = np.array(actions, dtype=self.action_space.dtype)  # a copy: environments may modify it
        scores = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, np.bool_)
        finished = np.zeros(self.num_envs, np.bool_)
        observations: list[Any] = []
        infos: dict[int, dict[str, float]] = {}
        # A Box action must be an array even if it is a scalar; a Discrete action must not be one.
        rows: Any = [actions[i, ...] for i in range(len(actions))] if self._arrays else actions
        for i, (env, over) in enumerate(zip(self._envs, self._resets.tolist(), strict=True)):
            if over:
                observation, _ = env.reset()
            else:
                observation, scores[i], env_terminated, env_truncated, info = env.step(rows[i])
                finished[i] = env_terminated or env_truncated
                terminated[i] = env_terminated or info.get(LIFE_LOST, False)
                if finished[i] and (numbers := numbers_of(info)):
                    infos[i] = numbers
            observations.append(observation)
        resets, self._resets = self._resets, finished
        rewards = np.sign(scores) if self._clip_rewards else scores
        return VectorStep(
            observations=self._encode(observations),
            rewards=rewards,
            terminated=terminated,
            truncated=finished & ~terminated,
            active=~resets,
            episode_starts=resets,
            scores=scores,
            finished=finished,
            infos=infos,
        )

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
        self._envs = []

    def _encode(self, observations: list[Any]) -> dict[str, Array]:
        batch = concatenate(self._single_space, observations, self._batch)
        return {name: encode(batch) for name, encode in self._encoders.items()}


class AsyncGymnasiumVectorEnv:
    """Steps each environment in its own process, which pays off for slow environments."""

    backend = "async"
    device = None

    def __init__(self, settings: EnvironmentSettings, layout: Layout) -> None:
        """Start one process for each of this rank's environments.

        Args:
            settings: The environment.
            layout: This rank's environments.

        Raises:
            UsageError: The environments can't be created, or their spaces aren't supported.
        """
        self.num_envs = layout.local
        self._first = layout.first
        self._steps = 0
        self._resets = np.zeros(layout.local, np.bool_)
        makers = [partial(_make_in_worker, settings, layout.first + i) for i in range(layout.local)]
        # Only a forked process knows the environments that the main program has registered.
        context = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        self._vector = AsyncVectorEnv(
            makers, context=context, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP
        )
        self.action_space: spaces.Space[Any] = self._vector.single_action_space
        self._encoders = encoders(self._vector.single_observation_space, settings.critic_observations)
        self.encoder = self._encoders["policy"]
        self.observation_space = self.encoder.space
        self.other_spaces: Mapping[str, spaces.Box] = _other_spaces(self._encoders)
        self._clip_rewards = settings.atari is not None and settings.atari.clip_rewards

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        with self._faults():
            observations, _ = self._vector.reset(seed=[seed + i for i in range(self.num_envs)])
        self._resets = np.zeros(self.num_envs, np.bool_)
        return self._encode(observations)

    def step(self, actions: Array) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        self._steps += 1
        with self._faults():
            observations, scores, env_terminated, env_truncated, info = self._vector.step(
                np.array(actions, dtype=self.action_space.dtype)
            )
        finished = env_terminated | env_truncated
        resets, self._resets = self._resets, finished
        terminated = env_terminated | info[LIFE_LOST] if LIFE_LOST in info else env_terminated
        return VectorStep(
            observations=self._encode(observations),
            rewards=np.sign(scores) if self._clip_rewards else scores,
            terminated=terminated,
            truncated=finished & ~terminated,
            active=~resets,
            episode_starts=resets,
            scores=scores,
            finished=finished,
            infos=_numbers_of_rows(info, np.flatnonzero(finished)),
        )

    def _encode(self, observations: Any) -> dict[str, Array]:
        return {name: encode(observations) for name, encode in self._encoders.items()}

    def close(self) -> None:
        """Terminate the processes."""
        if self._vector.closed:
            return
        try:
            with _silent():  # suppresses a warning about a step that a fault left unfinished
                self._vector.close(terminate=True)
        except (EOFError, OSError):
            # Closing failed because a worker process had died; terminate the others.
            for process in self._vector.processes:
                process.terminate()
            self._vector.closed = True

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Report a dead worker process as an EnvironmentFault; faults raised by workers pass through."""
        try:
            with _silent():  # suppresses the worker's traceback
                yield
        except (EOFError, OSError) as error:
            raise EnvironmentFault(f"{self._dead_worker()}, step {self._steps}: its process died") from error

    def _dead_worker(self) -> str:
        for i, process in enumerate(self._vector.processes):
            process.join(0.2)
            if not process.is_alive():
                return f"environment {self._first + i} (exit code {process.exitcode})"
        return "an environment"


def _numbers_of_rows(info: dict[str, Any], rows: Array) -> dict[int, dict[str, float]]:
    """What Gymnasium has merged into arrays, and its marks of who reported it, by row."""
    found = {}
    for row in rows.tolist():
        reported = {key: values[row] for key, values in info.items() if _reported(info, key, row)}
        if numbers := numbers_of(reported):
            found[row] = numbers
    return found


def _reported(info: dict[str, Any], key: str, row: int) -> bool:
    marks = info.get(f"_{key}")
    return isinstance(marks, np.ndarray) and isinstance(info[key], np.ndarray) and bool(marks[row])


def _other_spaces(encoders: Mapping[str, Encoder]) -> dict[str, spaces.Box]:
    return {name: encoder.space for name, encoder in encoders.items() if name != "policy"}


@contextmanager
def _silent() -> Iterator[None]:
    level = logger.min_level
    logger.min_level = logger.ERROR + 1
    try:
        yield
    finally:
        logger.min_level = level


def _make(settings: EnvironmentSettings, index: int) -> CheckedEnv:
    env = make_canonical_env(settings, training=True)
    check_action_space(env.action_space)
    Encoder(env.observation_space)  # raises if the space isn't supported
    return CheckedEnv(env, index)


def _make_in_worker(settings: EnvironmentSettings, index: int) -> CheckedEnv:
    if multiprocessing.parent_process() is not None:
        # Ctrl-C is sent to all processes; only the main process reacts, by finishing its iteration.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # With a handler inherited from the main process, a worker might not end, and `close` would hang.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return _make(settings, index)
