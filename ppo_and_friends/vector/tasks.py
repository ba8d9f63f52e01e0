"""An environment that is given tasks: attributes, reset options and arguments that change by the episode."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from ppo_and_friends.common.objects import one_line
from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.vector.adapter import Adapted, Foreign
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.checked_env import CheckedEnv
from ppo_and_friends.vector.protocol import Task, TaskOf, VectorEnv

Env = gymnasium.Env[Any, Any]

ABLE = ("gymnasium", "async")
"""Backends whose environments can be given tasks."""


def give_tasks(envs: VectorEnv, task_of: TaskOf, friend: str) -> None:
    """Let an engine ask for a task before each episode.

    Args:
        envs: Of one rank.
        task_of: Called with a row that is about to be reset.
        friend: Who wants this, for the error message.

    Raises:
        UsageError: The engine's environments can't be changed.
    """
    engine: Any = getattr(envs, "env", envs)
    if not hasattr(engine, "task_of"):
        name = getattr(engine, "backend", type(engine).__name__)
        raise UsageError(
            f"{friend} changes what environments are asked for, which the engine {name!r} can't: "
            f"use --set environment.backend={ABLE[0]} (or {ABLE[1]})."
        )
    engine.task_of = task_of


class TaskedEnv:
    """Begins the episodes of one environment, each with its task."""

    def __init__(self, env: CheckedEnv) -> None:
        """Take an environment as it was made."""
        self.env = env
        self._arguments: dict[str, Any] = {}
        self._originals: dict[str, Any] = {}
        self._seed = self._made_anew = 0
        self._task: Task | None = None

    def state(self) -> dict[str, Any] | None:
        """What `restore` needs, as plain data; None: it was given no task so far."""
        if self._task is None:
            return None
        return {"seed": self._seed, "made_anew": self._made_anew, "task": vars(self._task)}

    def restore(self, state: Any) -> None:
        """Make the environment what it was in the task of a saved state; its own state isn't set."""
        self._task = task = Task(**state["task"])
        if dict(task.arguments) != self._arguments:
            self._make_anew(dict(task.arguments))
            self.env.reset(seed=0)
        self._seed, self._made_anew = int(state["seed"]), int(state["made_anew"])
        self._set_attributes(task)

    def begin(self, task: Task, seed: int | None = None) -> Any:
        """Do what a task asks, and reset.

        Args:
            task: Of the episode that begins.
            seed: As for ``reset``; None: go on with the environment's own generator.

        Returns:
            The first observation.

        Raises:
            UsageError: The environment has no such attribute, or doesn't take the options or arguments.
            EnvironmentFault: Its own code raised an exception.
        """
        self._task = task
        if seed is not None:
            self._seed, self._made_anew = seed, 0
        if dict(task.arguments) != self._arguments:
            self._make_anew(dict(task.arguments))
            if seed is None:  # a new generator, whose seed follows from the first one's
                self._made_anew += 1
                sequence = np.random.SeedSequence((self._seed, self._made_anew))
                seed = int(sequence.generate_state(1)[0]) % 2**31
        self._set_attributes(task)
        options = dict(task.options) or None
        if options is not None and not _takes_options(self.env):
            raise UsageError(f"task: {self._name}'s reset takes no options ({', '.join(options)}).")
        return self.env.reset(seed=seed, options=options)[0]

    @property
    def _name(self) -> str:
        settings = self.env.settings
        return type(self.env.unwrapped).__name__ if settings is None else settings.id

    def _make_anew(self, arguments: dict[str, Any]) -> None:
        settings = self.env.settings
        assert settings is not None
        made = replace(settings, arguments=settings.arguments | arguments)
        self.env.change(make_canonical_env(made, training=True)).close()
        self._arguments, self._originals = arguments, {}

    def _set_attributes(self, task: Task) -> None:
        for path in dict.fromkeys([*self._originals, *task.attributes, *task.scales]):
            owner, name = self._place(path)
            if path not in self._originals:
                self._originals[path] = copy.deepcopy(getattr(owner, name))
            original = self._originals[path]
            value = task.attributes.get(path, original)
            if path in task.scales:
                value = np.multiply(value, task.scales[path])
            try:
                setattr(owner, name, _like(original, value))
            except Exception as error:  # whatever the environment's own code raises
                raise UsageError(
                    f"task: {self._name}'s attribute {path} can't be set to {value}: {one_line(error)}"
                ) from error

    def _place(self, path: str) -> tuple[Any, str]:
        """The object with an attribute, and its name there."""
        owner: Any = self.env.unwrapped
        owner = owner.inner if isinstance(owner, Foreign) else owner
        *way, name = path.split(".")
        for part in way:
            owner = getattr(self._with(owner, part, path), part)
        return self._with(owner, name, path), name

    def _with(self, owner: Any, name: str, path: str) -> Any:
        """The object itself, if it has the attribute."""
        if hasattr(owner, name):
            return owner
        known = getattr(owner, "__dict__", None) or dir(owner)
        near = nearest(name, [each for each in known if not each.startswith("_")])
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"task: {self._name}'s environment has no attribute {path!r}.{meant}")


def _like(original: Any, value: Any) -> Any:
    """A value in the form of the attribute's first one: arrays stay arrays, flags flags."""
    if isinstance(original, np.ndarray):
        return np.array(np.broadcast_to(np.asarray(value, original.dtype), original.shape))
    if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(original, bool) and isinstance(value, int | float):
        return bool(value)
    if isinstance(original, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _takes_options(env: Env) -> bool:
    """Whether no adapter on the way drops them."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, Adapted) and not env.accepts_options:
            return False
        env = env.env
    return True
