"""EnvPool behind Stable-Baselines3's vector interface, for ``peer_sb3.py``.

A peer gets the engine that our training has, so what is compared is the training. Nothing of this project
is imported.
"""

from __future__ import annotations

from typing import Any

import envpool
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

MAX_SEED = 2**31 - 1


class EnvPoolVecEnv(VecEnv):  # type: ignore[misc]  # stable_baselines3 isn't installed where types are checked
    """Single-threaded EnvPool environments. Episodes that ended are restarted within the same step."""

    def __init__(self, env_id: str, n_envs: int, seed: int) -> None:
        self.engine = envpool.make_gymnasium(
            env_id, num_envs=n_envs, seed=seed * 1000 % MAX_SEED, num_threads=1
        )
        super().__init__(n_envs, self.engine.observation_space, self.engine.action_space)

    def reset(self) -> np.ndarray[Any, Any]:
        """First observations."""
        return np.array(self.engine.reset()[0])

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Remember the actions, in the engine's type."""
        self.actions = actions.astype(self.action_space.dtype)

    def step_wait(self) -> tuple[Any, ...]:
        """Step all; an ended episode's final observation goes into its info, as Stable-Baselines3 has it."""
        observations, rewards, terminated, truncated, _ = self.engine.step(self.actions)
        observations, dones = np.array(observations), terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(dones)
        if len(ended):
            for i in ended:
                cut = bool(truncated[i] and not terminated[i])
                infos[i] = {"terminal_observation": observations[i].copy(), "TimeLimit.truncated": cut}
            observations[ended] = self.engine.reset(ended.astype(np.int32))[0]
        return observations, np.asarray(rewards, dtype=np.float32), dones, infos

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Only what Stable-Baselines3 itself asks for."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is."""
        return [False] * self.num_envs

    def _unused(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    set_attr = env_method = _unused

    def close(self) -> None:
        """EnvPool closes itself."""
