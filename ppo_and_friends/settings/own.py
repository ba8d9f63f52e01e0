"""Unregistered launchers and environments, by ``module:name`` or ``path/to/file.py:name``."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ppo_and_friends.common.objects import (
    MISSING,
    CannotImport,
    described,
    find_attribute,
    import_source,
    missing,
)
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.experiment import Experiment

FOLDER_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""Valid names of experiments: a run's folder is named after its experiment."""


SEVERAL_AGENTS = ("pettingzoo", "mpe2")
"""Packages whose modules are environments with several agents; the extra ``petting`` installs them."""


def import_named(name: str) -> ModuleType | None:
    """Import the part of a name before its last colon; None if there is no colon.

    Raises:
        UsageError: It can't be imported.
    """
    source, colon, _ = name.rpartition(":")
    if not colon:
        return None
    try:
        return import_source(source)
    except CannotImport as error:
        raise UsageError(f"{name}: can't import {source or 'nothing'}: {error}.") from error


def own_attribute(name: str) -> Any:
    """The attribute that ``module:name`` refers to; ``MISSING`` for anything else, such as a Gymnasium id.

    Raises:
        UsageError: The module can't be imported.
    """
    module = import_named(name)
    path = name.rpartition(":")[2]
    if module is None or not all(part.isidentifier() for part in path.split(".")):
        return MISSING
    import gymnasium

    return MISSING if path in gymnasium.registry else find_attribute(module, path)


def environment_maker(id: str) -> Callable[..., Any] | None:
    """The class or function that an environment id refers to; None for a registered id.

    Raises:
        UsageError: The module can't be imported, or the object isn't callable.
    """
    found = own_attribute(id)
    if found is MISSING:
        return environment_of_module(id)
    if not callable(found):
        raise UsageError(f"environment {id!r} is a {type(found).__name__}, not a class or function.")
    maker: Callable[..., Any] = found
    return maker


def environment_of_module(name: str) -> Callable[..., Any] | None:
    """What makes the environment of a module like PettingZoo's: its ``parallel_env``, or else its ``env``.

    Args:
        name: Such as ``mpe2.simple_spread_v3``.

    Returns:
        None if there is no such module, or it has neither.

    Raises:
        UsageError: The module can't be imported, or its package isn't installed.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return None
    try:
        module = import_source(name)
    except CannotImport as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or cause.name is None:
            raise UsageError(f"{name}: can't import it: {error}.") from error
        if cause.name == parts[0] and parts[0] in SEVERAL_AGENTS:
            raise UsageError(
                f"{name} needs the package {parts[0]}: pip install 'ppo-and-friends[petting]'."
            ) from error
        if not f"{name}.".startswith(f"{cause.name}."):
            raise UsageError(f"{name} needs a package that isn't installed: {cause.name}.") from error
        return None
    makers = (getattr(module, attribute, None) for attribute in ("parallel_env", "env"))
    return next((maker for maker in makers if callable(maker)), None)


def looks_like_environment(found: Any) -> bool:
    """Whether an object or a class has an environment's methods; gymnasium's base class isn't needed."""
    return callable(getattr(found, "reset", None)) and callable(getattr(found, "step", None))


def own_experiment(name: str, arguments: Mapping[str, Any] | None = None) -> Experiment | str | None:
    """The experiment or environment that ``module:name`` refers to.

    Args:
        name: Refers to an Experiment, a function without arguments that returns one, an environment's class,
            or a function that returns an environment.
        arguments: The environment's arguments; a function that needs some makes an environment.

    Returns:
        The experiment; ``name`` itself for an environment; None if the module has no such attribute.

    Raises:
        UsageError: It is something else, or the function raises an error.
    """
    found = own_attribute(name)
    if found is MISSING:
        return None if environment_of_module(name) is None else name
    if isinstance(found, type):
        if looks_like_environment(found):
            return name
    elif callable(found) and not isinstance(found, Experiment):
        arguments = arguments or {}
        if not _can_be_called(found, {}):
            if _can_be_called(found, arguments):
                return name
            raise UsageError(
                f"{name}{inspect.signature(found)} can't be called with {arguments or 'no arguments'}: "
                "give them by --set environment.arguments.NAME=VALUE."
            )
        try:
            found = found()
        except PPOError:
            raise
        except Exception as error:  # third-party code can raise anything
            raise UsageError(f"{name} failed: {described(error)}.") from error
        if looks_like_environment(found):
            with contextlib.suppress(Exception, SystemExit):  # it was made to see what it is
                found.close()
            return name
    if not isinstance(found, Experiment):
        what = found.__name__ if isinstance(found, type) else type(found).__name__
        raise UsageError(
            f"{name} is a {what}, not an Experiment, an environment, or a function that returns one."
        )
    if not FOLDER_NAME.fullmatch(found.name):
        raise UsageError(f"{name}: experiment name {found.name!r}: use letters, digits, '-' and '_' only.")
    return found


def _can_be_called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError:
        return False
    except ValueError:  # no signature: it has to be tried
        return True
    return True


def not_there(name: str) -> str | None:
    """A sentence about a ``module:name`` whose module has no such attribute; None without a module."""
    module = import_named(name)
    source, _, path = name.rpartition(":")
    return None if module is None else missing(source, path, module)
