"""Adapts environments that don't follow Gymnasium's current API, where their meaning is unambiguous.

Taken as they are meant: Gym's old signatures (``reset`` that takes no seed or returns an observation alone,
``step`` with four values), classes without gymnasium's base class, spaces of the package ``gym`` or that only
``reset`` defines, and rewards and flags as arrays of one number. What can't be understood is passed on, and
refused by `checks`. Each adapted environment can say what was adapted (`adaptations`).
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.gym_spaces import as_gymnasium

Env = gymnasium.Env[Any, Any]

LIMIT_KEY = "TimeLimit.truncated"
"""In Gym's old infos: whether ``done`` was the time limit's."""

NUMBERS = frozenset((float, int, np.float64, np.float32))
FLAGS = frozenset((bool, np.bool_))
"""Types that need no conversion."""


def conform(env: Any, name: str) -> Env:
    """An environment as Gymnasium's, whose results are adapted.

    Args:
        env: Anything with ``reset`` and ``step``.
        name: For error messages.

    Returns:
        The environment itself, if it is one of Gymnasium's own, which keep the rules.

    Raises:
        UsageError: It isn't an environment, or has no spaces even after a reset.
    """
    if isinstance(env, Adapted) or (isinstance(env, gymnasium.Env) and _is_gymnasiums(env)):
        return env
    if not isinstance(env, gymnasium.Env):
        if not (callable(getattr(env, "reset", None)) and callable(getattr(env, "step", None))):
            raise UsageError(
                f"{name} gave an object of type {type(env).__name__}, which is not an environment: "
                "it has no reset and step."
            )
        env = Foreign(env)
    return Adapted(env, name)


def adaptations(env: Env) -> list[str]:
    """What was adapted so far in an environment and its wrappers, as parts of a sentence, each once."""
    found: dict[str, None] = {}
    while True:
        found.update(vars(env).get("adapted", {}))
        if not isinstance(env, gymnasium.Wrapper):
            return list(found)
        env = env.env


def notice(adapted: list[str]) -> str | None:
    """A sentence for the user about `adaptations`; None if there are none."""
    if not adapted:
        return None
    return f"The environment differs from Gymnasium's rules and was adapted: {'; '.join(adapted)}."


def _is_gymnasiums(env: Env) -> bool:
    return type(env).__module__.partition(".")[0] in ("gymnasium", "ale_py", "ppo_and_friends")


class Foreign(gymnasium.Env[Any, Any]):
    """Gives an object with an environment's methods gymnasium's base class."""

    def __init__(self, inner: Any) -> None:
        """Copy what Gymnasium's wrappers read."""
        self.inner = inner
        self.metadata = dict(getattr(inner, "metadata", None) or {})
        self.render_mode = getattr(inner, "render_mode", None)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the object's."""
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def reset(self, **arguments: Any) -> Any:
        """The object's."""
        return self.inner.reset(**arguments)

    def step(self, action: Any) -> Any:
        """The object's."""
        return self.inner.step(action)

    def render(self) -> Any:
        """The object's; in Gym's old API the mode is an argument."""
        takes_mode = "mode" in _parameters(self.inner.render)
        return self.inner.render(mode=self.render_mode or "rgb_array") if takes_mode else self.inner.render()

    def close(self) -> None:
        """The object's, if it has one."""
        close = getattr(self.inner, "close", None)
        if close is not None:
            close()


class Adapted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adapts what an environment takes and returns.

    Attributes:
        adapted: What was adapted so far, as the keys of a dict, in order.
    """

    def __init__(self, env: Env, name: str) -> None:
        """Look at the environment's signatures and spaces."""
        super().__init__(env)
        self.adapted: dict[str, None] = {}
        if isinstance(env, Foreign):
            self._note(f"{type(env.inner).__name__} isn't derived from gymnasium.Env")
        accepted = _parameters(env.inner.reset if isinstance(env, Foreign) else env.reset)
        self._accepts = {key: key in accepted or "**" in accepted for key in ("seed", "options")}
        if not self._accepts["seed"]:
            self._note("reset takes no seed")
        self.observation_space = self._space("observation_space", name)
        self.action_space = self._space("action_space", name)
        self._pair_is_observation = isinstance(self.observation_space, spaces.Tuple)

    @property
    def accepts_options(self) -> bool:
        """Whether its ``reset`` takes ``options``; otherwise they are dropped."""
        return self._accepts["options"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset, with the arguments it accepts."""
        given: dict[str, Any] = {"seed": seed, "options": options}
        if seed is not None and not self._accepts["seed"]:
            self._seed(seed)
        result = self.env.reset(**{key: each for key, each in given.items() if self._accepts[key]})
        if type(result) is tuple and len(result) == 2 and type(result[1]) is dict:
            return result
        if not self._is_pair(result):
            self._note("reset returns an observation without info")
            return result, {}
        return result[0], self._info(result[1])

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and convert what has another form; what isn't understood is returned as it is."""
        result: Any = self.env.step(action)
        if type(result) is tuple and len(result) == 5:
            _, reward, terminated, truncated, info = result
            if (
                type(reward) in NUMBERS
                and type(terminated) in FLAGS
                and type(truncated) in FLAGS
                and type(info) is dict
            ):
                return result
        if not isinstance(result, tuple | list) or len(result) not in (4, 5):
            return result  # type: ignore[no-any-return]
        observation, reward, *flags, info = result
        info = self._info(info)
        flags = [self._flag(flag) for flag in flags]
        if len(flags) == 1:
            self._note(f"step returns four values (done means terminated, unless info says {LIMIT_KEY})")
            done, limit = flags[0], self._flag(info.get(LIMIT_KEY, False))
            flags = [done and not limit, done and limit]
        terminated, truncated = flags
        return observation, self._number(reward), terminated, truncated, info

    def _space(self, key: str, name: str) -> spaces.Space[Any]:
        space = getattr(self.env, key, None)
        if space is None:
            self._note(f"{key} is defined by reset only")
            if self._accepts["seed"]:
                self.env.reset(seed=0)
            else:
                self.env.reset()
            space = getattr(self.env, key, None)
        if callable(space) and not isinstance(space, spaces.Space) and not hasattr(space, "sample"):
            raise UsageError(
                f"{name}: {key} is a {type(space).__name__}, as in environments with several agents: these "
                "need --set environment.api=petting_zoo."
            )
        if space is None:
            raise UsageError(f"{name} has no {key}, not even after a reset.")
        if isinstance(space, spaces.Space):
            return space
        self._note(f"{key} is of the package {type(space).__module__.partition('.')[0]}")
        return as_gymnasium(space, f"{name}: {key}")

    def _seed(self, seed: int) -> None:
        """Seed an environment in whatever way it has."""
        gymnasium.Env.reset(self.env.unwrapped, seed=seed)  # `self.np_random`
        old = getattr(self.env.unwrapped, "seed", None)
        if callable(old):
            with contextlib.suppress(NotImplementedError, TypeError):
                old(seed % 2**32)

    def _is_pair(self, result: Any) -> bool:
        """Whether ``reset`` returned (observation, info) rather than an observation."""
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict | list | None):
            return False
        return not self._pair_is_observation or isinstance(result[0], tuple)

    def _info(self, info: Any) -> dict[str, Any]:
        if isinstance(info, dict):
            return info
        self._note(f"info is {'None' if info is None else 'a ' + type(info).__name__}")
        return {}

    def _number(self, reward: Any) -> Any:
        return reward if type(reward) in NUMBERS else self._single(reward, "the reward", "iufb")

    def _flag(self, flag: Any) -> Any:
        if type(flag) in FLAGS:
            return flag
        value = self._single(flag, "an end of an episode", "iufb")
        return bool(value) if isinstance(value, int | float) and value in (0, 1) else flag

    def _single(self, value: Any, what: str, kinds: str) -> Any:
        """The only number in a value, as Python's own; the value itself if it isn't one number."""
        try:
            array = np.asarray(value)
        except Exception:
            return value
        if array.size != 1 or array.dtype.kind not in kinds:
            return value
        if not isinstance(value, np.generic | int | float):
            self._note(f"{what} is a {type(value).__name__}{list(array.shape)}")
        return array.item()

    def _note(self, text: str) -> None:
        self.adapted[text] = None


def _parameters(function: Any) -> set[str]:
    """Names of a function's parameters; ``**`` among them if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"**"}
    return {"**" if each.kind is each.VAR_KEYWORD else each.name for each in parameters}
