"""Environments whose every number is known beforehand."""

from __future__ import annotations

import os
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.settings.experiment import EnvironmentSettings


class Clock(gymnasium.Env[Any, Any]):
    """Observes [seed, episode, t]; rewards t; ends after ``length`` steps as ``ending`` says."""

    def __init__(self, length: int = 3, ending: str = "terminated", dtype: Any = np.float32) -> None:
        self.length, self.ending = length, ending
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)
        self.action_space = spaces.Discrete(2)
        self.seed = self.episode = self.t = 0

    def _observe(self) -> Any:
        return np.array([self.seed, self.episode, self.t], self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.t += 1
        over = self.t >= self.length
        ending = self.ending
        return (
            self._observe(),
            float(self.t),
            over and ending in ("terminated", "both"),
            over and ending in ("truncated", "both"),
            {},
        )


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Broken(Clock):
    """Goes wrong in its second step, as ``fault`` says, where its seed is ``victim``."""

    def __init__(self, fault: str, victim: int = 11, observation_space: Any = None) -> None:
        super().__init__(length=100)
        self.fault, self.victim = fault, victim
        if observation_space is not None:
            self.observation_space = observation_space

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.seed != self.victim or self.t != 2:
            return observation, reward, terminated, truncated, info
        match self.fault:
            case "raises":
                raise ZeroDivisionError("the pole\nfell off")
            case "raises in reset":
                return observation, reward, True, truncated, info
            case "dies":
                os._exit(9)
            case "exits":
                sys.exit(0)
            case "odd":
                raise type("Odd", (BaseException,), {})("and odder")
            case "ctrl-c":
                raise KeyboardInterrupt
            case "generator exit":
                raise GeneratorExit
            case "speechless":
                raise Speechless
            case "huge reward":
                reward = 10**400
            case "number as text":
                reward = "1.0"
            case "nan":
                observation[1] = np.nan
            case "infinite":
                observation[2] = np.inf
            case "shape":
                observation = np.zeros(4, np.float32)
            case "dtype":
                observation = np.array(["a", "b", "c"])
            case "complex":
                observation = observation.astype(np.complex64)
            case "none":
                observation = None
            case "reward":
                reward = np.nan
            case "reward text":
                reward = "high"
            case "flag":
                terminated = 0.5
            case "three values":
                return observation, reward, info  # type: ignore[return-value]
        return observation, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is None and self.fault == "raises in reset" and self.seed == self.victim:
            raise RuntimeError("no track")
        return super().reset(seed=seed)


class Spaces(gymnasium.Env[Any, Any]):
    """Random samples of any observation space, any action space."""

    def __init__(self, observation_space: Any, action_space: Any = None) -> None:
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 0.0, False, False, {}


def toy(make: Any, backend: str = "gymnasium", **settings: Any) -> EnvironmentSettings:
    return EnvironmentSettings(id="Toy-v0", backend=backend, factory=make, **settings)  # type: ignore[arg-type]
