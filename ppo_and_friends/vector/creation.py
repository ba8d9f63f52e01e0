"""Making an environment from a class, a function or a registered id, whatever its own code does."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from ppo_and_friends.common.objects import one_line
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.vector.adapter import conform
from ppo_and_friends.vector.faults import passing, raised_fault

CREATION_FRAMES = 5
"""Lines of a traceback in the message about a constructor, since no run may be there to keep the rest."""

Env = gymnasium.Env[Any, Any]


def made(maker: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Env:
    """Make an environment from its class or a function, and adapt it.

    Raises:
        UsageError: It doesn't take the arguments, or what it makes isn't an environment.
        EnvironmentFault: Its code raised an exception.
    """
    return conform(called(maker, name, arguments), name)


def called(maker: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    """What a class or a function makes.

    Raises:
        UsageError: It doesn't take the arguments.
        EnvironmentFault: Its code raised an exception.
    """
    try:
        return maker(**arguments)
    except passing():
        raise
    except BaseException as error:
        if accepts(maker, (), arguments):
            raise raised_fault(f"{name} failed:", error, CREATION_FRAMES) from error
        raise _refused(name, maker, arguments, error) from error


def creation_error(id: str, arguments: Mapping[str, Any], error: BaseException) -> PPOError:
    """The error for a registered environment that can't be made.

    Args:
        id: Its id.
        arguments: What it was given.
        error: What ``gymnasium.make`` raised.
    """
    if isinstance(error, TypeError) and isinstance(error.__cause__, TypeError):
        error = error.__cause__  # Gymnasium's own is about the same, and longer
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if isinstance(error, TypeError) and spec is not None and spec.entry_point is not None:
        creator = _creator(spec)
        if not accepts(creator, (), {**spec.kwargs, **arguments}):
            return _refused(id, creator, arguments, error)
    return raised_fault(f"{id} can't be created:", error, CREATION_FRAMES)


def _refused(
    name: str, maker: Callable[..., Any], arguments: Mapping[str, Any], error: BaseException
) -> UsageError:
    return UsageError(
        f"{name} doesn't accept its arguments {dict(arguments)}: {one_line(error)}.\n"
        f"It takes {parameters(maker)}; give them by --set environment.arguments.NAME=VALUE."
    )


def accepts(function: Callable[..., Any], positional: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a function can be called with these arguments, judged by its signature."""
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def parameters(function: Callable[..., Any]) -> str:
    """A function's parameters as they are written in its definition."""
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "what its documentation says"


def adapting_spec(id: str) -> EnvSpec | None:
    """A copy of an id's registration that adapts what is made, before Gymnasium wraps it.

    Returns:
        None if there is no need to, or no such registration.
    """
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is None or spec.entry_point is None:
        return None
    entry_point = spec.entry_point
    source = entry_point if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    if str(source).partition(".")[0] in ("gymnasium", "ale_py"):
        return None
    spec = copy.copy(spec)
    spec.entry_point = _Adapting(_creator(spec), id)
    return spec


def _creator(spec: EnvSpec) -> Callable[..., Any]:
    entry_point = spec.entry_point
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point  # type: ignore[return-value]


class _Adapting:
    """Makes an environment by an entry point, and adapts it."""

    def __init__(self, creator: Callable[..., Any], id: str) -> None:
        self.creator, self.id = creator, id
        if isinstance(getattr(creator, "metadata", None), dict):
            self.metadata = creator.metadata  # type: ignore[attr-defined]

    def __call__(self, **arguments: Any) -> Env:
        return conform(self.creator(**arguments), self.id)
