"""The backend for any environment: stepped in this process, one after another."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.nested import copied, row_of
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.adapter import adaptations, notice
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.checks import CheckedEnv
from ppo_and_friends.vector.codec import Encoder
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.protocol import VectorStep
from ppo_and_friends.vector.spaces import check_action_space, left_out
from ppo_and_friends.vector.wrappers import LIFE_LOST

Array = NDArray[Any]


class GymnasiumVectorEnv:
    """Steps the environments in this process, one after another."""

    backend = "gymnasium"

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
        self.action_space: spaces.Space[Any] = first.action_space
        self.encoder = Encoder(first.observation_space)
        self.observation_space = self.encoder.space
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

    def reset(self, seed: int) -> Array:
        """Reset every environment; see `VectorEnv.reset`."""
        self._resets = np.zeros(self.num_envs, np.bool_)
        with self._output:
            for i, env in enumerate(self._envs):
                self._batch.write(i, env.reset(seed=seed + i)[0])
        return self.encoder(self._batch.value)

    def step(self, actions: Any) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        actions = copied(actions, self.action_space)  # since environments may modify them
        scores = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, np.bool_)
        finished = np.zeros(self.num_envs, np.bool_)
        with self._output:
            for i, (env, was_over) in enumerate(zip(self._envs, self._resets.tolist(), strict=True)):
                if was_over:
                    observation, _ = env.reset()
                else:
                    action = row_of(actions, self.action_space, i)
                    observation, scores[i], env_terminated, env_truncated, info = env.step(action)
                    finished[i] = env_terminated or env_truncated
                    terminated[i] = env_terminated or info.get(LIFE_LOST, False)
                self._batch.write(i, observation)
        self._resets = finished
        rewards = np.sign(scores) if self._clip_rewards else scores
        return VectorStep(
            observations=self.encoder(self._batch.value),
            rewards=rewards,
            terminated=terminated,
            truncated=finished & ~terminated,
            resets=finished,
            scores=scores,
            finished=finished,
        )

    def close(self) -> None:
        """Close the environments. What they raise is of no interest any more."""
        envs, self._envs = self._envs, []
        with self._output:
            for env in envs:
                with suppress(Exception, SystemExit):
                    env.close()


def make_checked(settings: EnvironmentSettings, index: int) -> CheckedEnv:
    """Make the training environment with a global index, whose results are checked.

    Raises:
        UsageError: It can't be created, or its spaces aren't supported.
        EnvironmentFault: Its own code raised an exception.
    """
    env = make_canonical_env(settings, training=True)
    check_action_space(env.action_space)
    Encoder(env.observation_space)  # raises if the space isn't supported
    return CheckedEnv(env, index)


def check_alike(id: str, env: Any, first: Any) -> None:
    """Check that two environments have the same spaces.

    Raises:
        UsageError: They differ; shows how.
    """
    for key in ("observation_space", "action_space"):
        one, other = getattr(first, key), getattr(env, key)
        if one != other:
            raise UsageError(f"{id}: the environments don't all have the same spaces: {one} and {other}.")


def left_out_notice(space: spaces.Space[Any]) -> str | None:
    """A sentence about the parts of observations that the policy doesn't see; None if it sees all."""
    parts = left_out(space)
    if not parts:
        return None
    return (
        f"The policy doesn't see {', '.join(parts)}, which can't be encoded. "
        "If it matters, encode it in a wrapper (environment.wrappers)."
    )
