"""The EnvPool backend, which steps environments in C++ threads, many times faster than Python."""

from __future__ import annotations

import importlib.util
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.protocol import NO_SPACES, VectorStep

Array = NDArray[Any]

VERIFIED = frozenset(
    {
        "CartPole-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "LunarLander-v3",
        "LunarLanderContinuous-v3",
        "BipedalWalker-v3",
        "BipedalWalkerHardcore-v3",
        "InvertedPendulum-v5",
        "InvertedDoublePendulum-v5",
        "Hopper-v5",
        "Walker2d-v5",
        "HalfCheetah-v5",
        "Swimmer-v5",
        "Ant-v5",
        "Humanoid-v5",
        "HumanoidStandup-v5",
    }
)
"""Ids whose environments do the same in EnvPool and in Gymnasium, by ``benchmarks/equal_states.py``.

Not Pendulum-v1: where its speed is clipped at 8, EnvPool moves the angle by the speed before clipping.
"""

ATARI_ID = re.compile(r"(\w+)NoFrameskip-v4")
"""Gymnasium's Atari ids without sticky actions or frame skip, which EnvPool calls ``<game>-v5``."""

MAX_GAME_FRAMES = 108_000
"""Emulator frames after which Gymnasium truncates a game (half an hour at 60 frames per second)."""

SEED_LIMIT = 2**31
"""EnvPool takes 31-bit seeds; larger ones wrap around."""


def installed() -> bool:
    """Return whether EnvPool is installed; it is available for Linux on x86-64 only."""
    return importlib.util.find_spec("envpool") is not None


def unsupported_reason(settings: EnvironmentSettings) -> str | None:
    """Return why EnvPool can't run these settings exactly as Gymnasium would, or None if it can."""
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
    if settings.atari is None:
        return (
            None
            if settings.id in VERIFIED
            else f"EnvPool has no {settings.id} that is known to agree with Gymnasium's"
        )
    if not ATARI_ID.fullmatch(settings.id):
        return f"EnvPool supports Atari ids that end in NoFrameskip-v4, and this is {settings.id}"
    if settings.atari.observation != "pixels":
        return "EnvPool doesn't stack RAM observations"
    if settings.atari.stack == 1:
        return "EnvPool's unstacked frames have a different shape"
    if settings.atari.fire_on_reset:
        return "EnvPool presses FIRE at another frame of an episode than Gymnasium"
    if settings.atari.noop_max == 0:
        return "EnvPool starts every game with at least one no-op"
    return None


def task_and_options(settings: EnvironmentSettings) -> tuple[str, dict[str, Any]]:
    """Return EnvPool's name for an environment, and options that make it equal to Gymnasium's.

    Args:
        settings: Settings for which `unsupported_reason` returns None.
    """
    options: dict[str, Any] = {}
    if settings.max_episode_steps is not None:
        options["max_episode_steps"] = settings.max_episode_steps
    atari, match = settings.atari, ATARI_ID.fullmatch(settings.id)
    if atari is None or match is None:
        return settings.id, options
    options.setdefault("max_episode_steps", MAX_GAME_FRAMES // atari.frame_skip)
    return f"{match[1]}-v5", options | {
        "frame_skip": atari.frame_skip,
        "stack_num": atari.stack,
        "noop_max": atari.noop_max,
        "repeat_action_probability": atari.repeat_action_probability,
        # Its own episodes of one life play random no-ops after every lost life, which Gymnasium doesn't:
        # `step` reads the lives instead.
        "episodic_life": False,
        "reward_clip": atari.clip_rewards,
        "use_fire_reset": False,
    }


class EnvPoolVectorEnv:
    """The environments of one EnvPool."""

    backend = "envpool"
    device = None
    other_spaces = NO_SPACES

    def __init__(self, settings: EnvironmentSettings, num_envs: int, threads: int) -> None:
        """Look up the spaces; the pool itself is created by `reset`, because it takes its seeds only then.

        Args:
            settings: Settings for which `unsupported_reason` returns None.
            num_envs: B, the number of environments.
            threads: Number of threads that step the environments; at most ``num_envs`` are used.

        Raises:
            UsageError: EnvPool doesn't have the environment, or doesn't accept its options.
        """
        import envpool

        self.num_envs = num_envs
        self._task, self._options = task_and_options(settings)
        self._options |= {"num_threads": max(1, min(threads, num_envs))}
        self._atari = settings.atari is not None
        self._life_loss = settings.atari is not None and settings.atari.life_loss_ends_episode
        self._lives: Array = np.zeros(num_envs, np.int32)
        self._pool: Any = None
        self._over: Array = np.zeros(num_envs, np.bool_)
        with _quiet():
            try:
                spec = envpool.make_spec(self._task, num_envs=num_envs, **self._options)
            except (AssertionError, KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"{settings.id}: EnvPool doesn't accept {self._task} with {self._options}: {error}"
                ) from error
            self.observation_space: spaces.Box = _observation_space(spec.observation_space)
            self.action_space: spaces.Space[Any] = _action_space(spec.action_space)

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        import envpool

        self.close()
        seeds = [(seed + i) % SEED_LIMIT for i in range(self.num_envs)]
        with _quiet():
            self._pool = envpool.make(
                self._task, env_type="gymnasium", num_envs=self.num_envs, env_seed=seeds, **self._options
            )
            observations, info = self._pool.reset()
        self._over = np.zeros(self.num_envs, np.bool_)
        if self._life_loss:
            self._lives = np.array(info["lives"])
        return {"policy": np.asarray(observations)}

    def step(self, actions: Array) -> VectorStep:
        """Step all environments; see `VectorEnv.step`.

        A termination on the last step before the time limit appears as a truncation, because EnvPool
        doesn't distinguish the two.
        """
        observations, rewards, terminated, truncated, info = self._pool.step(actions)
        resets, over = self._over, terminated | truncated
        self._over, true_rewards = over, rewards
        if self._atari:
            # Unlike `terminated`, this is right on the last step before the time limit, too.
            terminated, true_rewards = info["terminated"].astype(np.bool_), info["reward"]
            if self._life_loss:
                terminated |= info["lives"] < self._lives
                self._lives = np.array(info["lives"])
            truncated = over & ~terminated
        return VectorStep(
            {"policy": observations}, rewards, terminated, truncated, ~resets, resets, true_rewards, over
        )

    def close(self) -> None:
        """Release the pool and its threads."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


_warnings_lock = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings of gymnasium.spaces.Box about the bounds that EnvPool declares."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _observation_space(space: spaces.Box) -> spaces.Box:
    if space.dtype == np.uint8:
        return spaces.Box(0, 255, space.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)


def _action_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Convert an action space to Gymnasium's declaration, as EnvPool's MuJoCo actions are float64."""
    if isinstance(space, spaces.Box):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return spaces.Box(low, high, space.shape, np.float32)
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    return space
