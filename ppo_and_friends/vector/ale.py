"""The backend for ale-py's own vector environment, which supports Atari games with sticky actions."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.protocol import NO_SPACES, VectorStep

Array = NDArray[Any]

MAX_GAME_FRAMES = 108_000
"""Emulator frames after which a game is truncated (half an hour at 60 frames per second)."""

SEED_LIMIT = 2**31
"""The emulator takes 31-bit seeds; larger ones wrap around."""


def installed() -> bool:
    """Return whether ale-py is installed."""
    return importlib.util.find_spec("ale_py") is not None


def unsupported_reason(settings: EnvironmentSettings) -> str | None:
    """Return why ALE's vector environment can't run these settings, or None if it can."""
    if settings.atari is None:
        return "it is not an Atari game with preprocessing"
    if settings.factory is not None:
        return "it is created by a factory"
    if settings.wrappers:
        return "it has wrappers"
    if settings.action_masks not in ("auto", "off"):
        return "it has no action masks there"
    if settings.critic_observations:
        return "its critic sees keys of a Dict observation"
    if settings.arguments:
        return f"it has arguments ({', '.join(settings.arguments)})"
    if settings.action_repeat > 1:
        return "it repeats actions"
    if settings.atari.observation != "pixels":
        return "ALE's vector environment has pixel observations only"
    if settings.atari.fire_on_reset:
        return "ALE's vector environment presses FIRE for one frame, where Gymnasium's does for a whole step"
    return None


def _game(id: str) -> str:
    from ppo_and_friends.settings.registry import import_of_id, unknown_environment

    import_of_id(id)
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is None:
        raise unknown_environment(id)
    game = spec.kwargs.get("game")
    if not isinstance(game, str):
        raise UsageError(f"backend 'ale' can't run {id}: it is not an Atari game.")
    return game


class ALEVectorEnv:
    """Atari games stepped in ale-py's C++ threads; a lost life can terminate an episode without a reset."""

    backend = "ale"
    device = None
    other_spaces = NO_SPACES

    def __init__(self, settings: EnvironmentSettings, num_envs: int, threads: int) -> None:
        """Start the emulators.

        Args:
            settings: Settings for which `unsupported_reason` returns None.
            num_envs: B, the number of games.
            threads: Number of threads that step the emulators; at most ``num_envs`` are used.

        Raises:
            UsageError: The id is unknown, or not that of an Atari game.
        """
        from ale_py.vector_env import AtariVectorEnv

        from ppo_and_friends.settings.registry import quiet_emulator

        quiet_emulator()
        atari = settings.atari
        assert atari is not None
        self.num_envs = num_envs
        frames = MAX_GAME_FRAMES
        if settings.max_episode_steps is not None:
            frames = settings.max_episode_steps * atari.frame_skip
        self._vector: Any = AtariVectorEnv(
            _game(settings.id),
            num_envs,
            num_threads=max(1, min(threads, num_envs)),
            max_num_frames_per_episode=frames,
            repeat_action_probability=atari.repeat_action_probability,
            stack_num=atari.stack,
            frameskip=atari.frame_skip,
            noop_max=atari.noop_max,
            use_fire_reset=False,
            # Done in `step` instead: otherwise neither the true rewards nor the end of a game is reported.
            reward_clipping=False,
            episodic_life=False,
        )
        self.observation_space: spaces.Box = spaces.Box(
            0, 255, self._vector.single_observation_space.shape, np.uint8
        )
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(self._vector.ale.get_action_set()))
        self._life_loss = atari.life_loss_ends_episode
        self._clip_rewards = atari.clip_rewards
        self._lives: Array = np.zeros(num_envs, np.int32)
        self._black: Array = np.zeros(num_envs, np.int64)  # frames of the next stack from before the game
        self._resets: Array = np.zeros(num_envs, np.bool_)

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every game; see `VectorEnv.reset`."""
        seeds = np.array([(seed + i) % SEED_LIMIT for i in range(self.num_envs)])
        observations, info = self._vector.reset(seed=seeds)
        self._lives = np.array(info["lives"])
        self._resets = np.zeros(self.num_envs, np.bool_)
        return {"policy": self._filled(np.asarray(observations), np.ones(self.num_envs, np.bool_))}

    def step(self, actions: Array) -> VectorStep:
        """Step all games; see `VectorEnv.step`."""
        observations, rewards, env_terminated, env_truncated, info = self._vector.step(
            np.asarray(actions, np.int32)
        )
        observations = self._filled(observations, self._resets)
        finished = env_terminated | env_truncated
        resets, self._resets = self._resets, finished
        terminated = env_terminated
        if self._life_loss:
            terminated = env_terminated | (info["lives"] < self._lives)
            self._lives = np.array(info["lives"])
        true_rewards = rewards.astype(np.float64)
        return VectorStep(
            observations={"policy": observations},
            rewards=np.sign(true_rewards) if self._clip_rewards else true_rewards,
            terminated=terminated,
            truncated=finished & ~terminated,
            active=~resets,
            episode_starts=resets,
            true_rewards=true_rewards,
            finished=finished,
        )

    def _filled(self, observations: Array, first: Array) -> Array:
        """Repeat a game's first frame where the stack holds black ones of before it, as Gymnasium does."""
        self._black = np.where(first, observations.shape[1] - 1, np.maximum(self._black - 1, 0))
        for row in np.flatnonzero(self._black):
            black = self._black[row]
            observations[row, :black] = observations[row, black]
        return observations

    def close(self) -> None:
        """Release the emulators."""
        self._vector = None
