"""Environments that keep to other rules than Gymnasium's, each odd in one way; observations count steps."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)
CHOICE = spaces.Discrete(2)


class Plain:
    """Without gymnasium's base class: observes [seed, t], rewards t, ends after 3 steps."""

    observation_space: Any = BOX
    action_space: Any = CHOICE

    def __init__(self) -> None:
        self.seeded, self.t = -1, 0

    def observe(self) -> Any:
        return np.array([self.seeded, self.t], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seeded = self.seeded if seed is None else seed
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.observe(), float(self.t), self.t >= 3, False, {}


class Old(Plain):
    """Gym's API until 0.25: seeded by ``seed``, no info at a reset, ``done``."""

    limit = False

    def seed(self, seed: int) -> None:
        self.seeded = seed

    def reset(self) -> Any:  # type: ignore[override]
        self.t = 0
        return self.observe()

    def step(self, action: Any) -> Any:
        self.t += 1
        info = {"TimeLimit.truncated": True} if self.limit and self.t >= 3 else {}
        return self.observe(), float(self.t), self.t >= 3, info


class OldLimit(Old):
    limit = True


class Arrays(Plain):
    """Rewards, flags and infos of other types."""

    def reset(self, **_: Any) -> Any:
        return super().reset(**_)[0], None

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, _ = super().step(action)
        return [observation, np.array([reward], np.float32), np.array(terminated), np.int64(0), ["info"]]


class Late(Plain):
    """Knows its spaces after a reset only."""

    observation_space = action_space = None

    def reset(self, **_: Any) -> Any:
        self.observation_space, self.action_space = BOX, CHOICE
        return super().reset(**_)


class ModernOld(gymnasium.Env[Any, Any]):
    """A gymnasium.Env with the old signatures."""

    observation_space, action_space = BOX, CHOICE

    def reset(self) -> Any:  # type: ignore[override]
        self.t = 0
        self.start = self.np_random.integers(1000)
        return np.array([self.start, 0], np.float32)

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.array([self.start, self.t], np.float32), float(self.t), self.t >= 3, {}


class Whole(Plain):
    """Whole numbers as floats."""

    observation_space = spaces.MultiDiscrete([5, 5])

    def observe(self) -> Any:
        return np.array([1.0, self.t])


class Shared(Plain):
    """All of them return the same array."""

    buffer = np.zeros(2, np.float32)

    def observe(self) -> Any:
        self.buffer[:] = self.seeded, self.t
        return self.buffer


class Chatty(Plain):
    """Prints, and has a key of its own that is called like one of the project's once was."""

    def step(self, action: Any) -> Any:
        print(f"step {self.t}")
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, {"life_lost": np.array([True, False])}


class Unpicklable(Plain):
    """Its infos differ from step to step and from environment to environment, and can't be pickled."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, _ = super().step(action)
        info = {
            f"key {self.seeded}": lambda: 3,
            "array": np.zeros(self.t + self.seeded),
            "x": [1, "a"][self.t % 2],
        }
        return observation, reward, terminated, truncated, info


class BadClose(Plain):
    """Can't be closed."""

    def close(self) -> None:
        raise RuntimeError("closed already")


class Texts(Plain):
    """A part of its observations can't be encoded."""

    observation_space = spaces.Dict({"mission": spaces.Text(10), "x": BOX})

    def observe(self) -> Any:
        return {"mission": "go", "x": super().observe()}


class Exits(Plain):
    """Ends the program instead of itself."""

    def __init__(self) -> None:
        raise SystemExit("no licence")


class Asserts(Plain):
    """An assertion without a message."""

    def __init__(self) -> None:
        assert self.observation_space is None


class old_gym:  # noqa: N801
    """Spaces as in the package ``gym``, which is another one."""

    class Discrete:
        def __init__(self, n: int) -> None:
            self.n = n

        def sample(self) -> int:
            return 0

    class Box:
        def __init__(self, low: Any, high: Any, shape: Any) -> None:
            self.low, self.high = np.full(shape, low), np.full(shape, high)
            self.shape, self.dtype = shape, np.dtype(np.float32)

    class Dict:
        def __init__(self, **parts: Any) -> None:
            self.spaces = parts

    class Graph:
        shape = None


class OldSpaces(Old):
    observation_space = old_gym.Dict(b=old_gym.Box(-1.0, 1.0, (2,)), a=old_gym.Discrete(4))
    action_space = old_gym.Discrete(3)

    def observe(self) -> Any:
        return {"b": np.zeros(2, np.float32), "a": self.t}


class GraphSpace(Old):
    action_space = old_gym.Graph()
