"""The backend for any environment: stepped in this process, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.common.nested import copied, row_of
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.adapter import adaptations, notice
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.checked_env import CheckedEnv, check_alike, left_out_notice, make_checked
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.codec import encoders, other_spaces
from ppo_and_friends.vector.masks import KEY, mask_space
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.protocol import TaskOf, VectorStep
from ppo_and_friends.vector.states.environment import restore, saved
from ppo_and_friends.vector.tasks import TaskedEnv
from ppo_and_friends.vector.wrappers import LIFE_LOST

Array = NDArray[Any]


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
        self.num_envs, self._first = layout.local, layout.first
        self.task_of: TaskOf | None = None
        self._envs: list[CheckedEnv] = []
        self._output = Output()
        try:
            with self._output:
                for i in range(layout.local):
                    self._envs.append(make_checked(settings, layout.first + i))
            first = self._envs[0]
            for env in self._envs[1:]:
                check_alike(settings.id, env, first)
        except BaseException:
            self.close()
            raise
        self._tasked: list[TaskedEnv] = []
        self.action_space: spaces.Space[Any] = first.action_space
        self._encoders = encoders(first.observation_space, settings.critic_observations)
        self.encoder = self._encoders["policy"]
        self.observation_space = self.encoder.space
        self.other_spaces = other_spaces(self._encoders)
        self._masks: Array | None = None
        if first.masked:
            space = mask_space(first.action_space)
            self.other_spaces = {**self.other_spaces, KEY: space}
            self._masks = np.ones((layout.local, *space.shape), np.bool_)
        self._batch = ObservationBatch(first.observation_space, layout.local)
        self._resets = np.zeros(layout.local, np.bool_)
        self._clip_rewards = settings.atari is not None and settings.atari.clip_rewards

    @property
    def notices(self) -> list[str]:
        """What the user should know about the environments, as far as they have shown it."""
        adapted = dict.fromkeys(each for env in self._envs for each in adaptations(env))
        found = [
            notice(list(adapted)),
            left_out_notice(self.encoder.declared),
            self._output.notice(),
        ]
        return [each for each in found if each]

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        self._resets = np.zeros(self.num_envs, np.bool_)
        with self._output:
            for i, env in enumerate(self._envs):
                self._write(i, env, self._begin(i, env, seed + i))
        return self._observations()

    def step(self, actions: Any) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        actions = copied(actions, self.action_space)  # since environments may modify them
        true_rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, np.bool_)
        finished = np.zeros(self.num_envs, np.bool_)
        infos: dict[int, dict[str, float]] = {}
        with self._output:
            for i, (env, was_over) in enumerate(zip(self._envs, self._resets.tolist(), strict=True)):
                if was_over:
                    observation = self._begin(i, env)
                else:
                    action = row_of(actions, self.action_space, i)
                    observation, true_rewards[i], env_terminated, env_truncated, info = env.step(action)
                    finished[i] = env_terminated or env_truncated
                    terminated[i] = env_terminated or info.get(LIFE_LOST, False)
                    if finished[i] and (numbers := numbers_of(info)):
                        infos[i] = numbers
                self._write(i, env, observation)
        resets, self._resets = self._resets, finished
        rewards = np.sign(true_rewards) if self._clip_rewards else true_rewards
        return VectorStep(
            observations=self._observations(),
            rewards=rewards,
            terminated=terminated,
            truncated=finished & ~terminated,
            active=~resets,
            episode_starts=resets,
            true_rewards=true_rewards,
            finished=finished,
            infos=infos,
        )

    def get_states(self) -> list[bytes]:
        """The states of the environments; see `VectorEnv`."""
        tasked: list[TaskedEnv | None] = [*self._tasked] or [None] * self.num_envs
        with self._output:
            rows = zip(self._envs, tasked, self._resets.tolist(), strict=True)
            return [saved(env, each, over) for env, each, over in rows]

    def set_states(self, states: Sequence[bytes]) -> None:
        """Set the states of the environments, which were reset; see `VectorEnv`."""
        tasked: list[TaskedEnv | None] = [*self._tasked] or [None] * self.num_envs
        with self._output:
            rows = zip(self._envs, tasked, states, strict=True)
            self._resets = np.array([restore(env, each, state) for env, each, state in rows])

    def _begin(self, row: int, env: CheckedEnv, seed: int | None = None) -> Any:
        """The first observation of a row's next episode."""
        if self.task_of is None:
            return env.reset(seed=seed)[0]
        if not self._tasked:
            self._tasked = [TaskedEnv(each) for each in self._envs]
        return self._tasked[row].begin(self.task_of(row), seed)

    def _write(self, row: int, env: CheckedEnv, observation: Any) -> None:
        self._batch.write(row, observation)
        if self._masks is not None:
            self._masks[row] = env.action_mask

    def _observations(self) -> dict[str, Array]:
        found = {name: encode(self._batch.value) for name, encode in self._encoders.items()}
        return found if self._masks is None else found | {KEY: self._masks}

    def close(self) -> None:
        """Close the environments, up to one that doesn't return."""
        envs, self._envs = self._envs, []
        with self._output:
            for i, env in enumerate(envs, self._first):
                if not close_env(env, f"environment {i}"):
                    break
