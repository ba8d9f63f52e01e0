"""Standard preprocessing of Atari games (Machado et al. 2018, arXiv:1709.06009)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray

from ppo_and_friends.settings.experiment import AtariSettings
from ppo_and_friends.vector.wrappers import LIFE_LOST
from ppo_and_friends.vector.wrappers.action_repeat import ActionRepeat

Env = gymnasium.Env[Any, Any]


def preprocess(env: Env, atari: AtariSettings) -> Env:
    """Add no-op starts, frame skip and frame stacking to a game whose own frame skip is 1.

    Returns:
        An environment whose observations are uint8, oldest frame first: ``[stack, 84, 84]`` greyscale
        pixels or ``[stack * 128]`` RAM; or int8, ``[stack * 1024]`` bits of RAM.
    """
    if atari.observation == "pixels":
        env = AtariPreprocessing(env, noop_max=atari.noop_max, frame_skip=atari.frame_skip)
    else:
        env = NoOpStart(env, atari.noop_max)
        env = ActionRepeat(env, atari.frame_skip)
    if atari.fire_on_reset:
        env = FireOnReset(env)
    if atari.observation == "pixels":
        return FrameStackObservation(env, atari.stack)
    env = StackRam(env, atari.stack)
    return Bits(env) if atari.observation == "ram_bits" else env


class NoOpStart(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes between 1 and ``noop_max`` no-op actions, a random number, at the start of each episode."""

    def __init__(self, env: Env, noop_max: int) -> None:
        """Take at most ``noop_max`` no-op actions; 0 disables them."""
        super().__init__(env)
        self.noop_max = noop_max

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset, then take the no-op actions."""
        observation, info = self.env.reset(seed=seed, options=options)
        if self.noop_max > 0:
            for _ in range(int(self.unwrapped.np_random.integers(1, self.noop_max + 1))):
                observation, _, terminated, truncated, info = self.env.step(0)
                if terminated or truncated:
                    observation, info = self.env.reset(options=options)
        return observation, info


class FireOnReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes the FIRE action after each reset, in games that have it; some don't start without it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset, then take the FIRE action once."""
        observation, info = self.env.reset(seed=seed, options=options)
        meanings = self.unwrapped.get_action_meanings()  # type: ignore[attr-defined]
        if "FIRE" in meanings:
            observation, _, terminated, truncated, info = self.env.step(meanings.index("FIRE"))
            if terminated or truncated:
                observation, info = self.env.reset(options=options)
        return observation, info


class StackRam(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Concatenates the last ``stack`` RAM states, oldest first; after a reset, all are the first state."""

    def __init__(self, env: Env, stack: int) -> None:
        """Concatenate the RAM, ``[128]`` uint8, of the last ``stack`` steps."""
        super().__init__(env)
        size = int(np.prod(env.observation_space.shape or ()))
        self.observation_space = spaces.Box(0, 255, (stack * size,), np.uint8)
        self._rows = np.zeros((stack, size), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], Any]:
        """Reset, and fill the stack with the first state."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._rows[:] = observation
        return self._rows.reshape(-1).copy(), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], Any, bool, bool, dict[str, Any]]:
        """Step, and add the new state to the stack."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._rows[:-1] = self._rows[1:]
        self._rows[-1] = observation
        return self._rows.reshape(-1).copy(), reward, terminated, truncated, info


class Bits(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Unpacks bytes into bits, each byte's highest first."""

    def __init__(self, env: Env) -> None:
        """Unpack observations that are uint8, ``[N]``, into int8, ``[8 * N]``, of 0 and 1."""
        super().__init__(env)
        self.observation_space = spaces.MultiBinary(8 * int(np.prod(env.observation_space.shape or ())))

    def observation(self, observation: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Unpack one observation."""
        return np.unpackbits(observation).view(np.int8)


class LifeLossInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Sets ``info[LIFE_LOST]`` (bool) to whether the step lost a life; the game continues."""

    def __init__(self, env: Env) -> None:
        """Track the number of lives."""
        super().__init__(env)
        self._lives = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset, and record the number of lives."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = int(info.get("lives", 0))
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and compare the number of lives with that before the step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        lives = int(info.get("lives", 0))
        info[LIFE_LOST] = lives < self._lives
        self._lives = lives
        return observation, reward, terminated, truncated, info
