"""Finds the experiment that belongs to a name. Light: no simulator is imported for a launcher."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ppo_and_friends.common.plugins import installed
from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.own import FOLDER_NAME, import_named, not_there, own_experiment

PACKAGE = "ppo_and_friends.environments"
GENERIC = f"{PACKAGE}.generic"
"""Imported when it is needed: it makes an environment to see its spaces."""

FIRST = ("classic_control", "box2d", "mujoco", "atari", "memory", "action_masks", "several_agents")
"""Modules that come first in the list, easiest first; the others follow by name."""

Build = Callable[[], Experiment]


@dataclass(frozen=True)
class Launcher:
    """A named experiment, not built yet."""

    name: str
    """What ``-e`` takes, upper or lower case alike; the run's folder is called like it."""

    id: str
    """The environment's versioned id."""

    spaces: str
    """Observation and action space in words, for the list."""

    build: Build
    """Makes the experiment."""

    def experiment(self) -> Experiment:
        """Build the experiment.

        Raises:
            UsageError: Its name or id isn't the one it was registered under.
        """
        experiment = self.build()
        if (experiment.name, experiment.environment.id) != (self.name, self.id):
            raise UsageError(
                f"launcher {self.name} ({self.id}) builds an experiment called {experiment.name} "
                f"({experiment.environment.id}): write the same in both places."
            )
        return experiment


_launchers: dict[str, Launcher] = {}
_loaded: list[bool] = []


def launcher(name: str, *, id: str, spaces: str = "") -> Callable[[Build], Build]:
    """Register the decorated function, which returns an Experiment, as a launcher.

    Args:
        name: What ``-e`` takes; letters, digits, ``-`` and ``_``, since a folder is called like it.
        id: The environment's versioned Gymnasium id; where several have the same, the first is found by it.
        spaces: The spaces in words, such as ``4 -> Discrete(2)``, for ``--list``.

    Raises:
        UsageError: The name is taken by another function, or can't be a folder's.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise UsageError(f"launcher name {name!r}: use letters, digits, '-' and '_' only.")

    def register(build: Build) -> Build:
        known = _launchers.get(name.lower())
        if known is not None and (known.build.__module__, known.build.__qualname__) != (
            build.__module__,
            build.__qualname__,
        ):
            raise UsageError(f"launcher name {name!r} is taken by {known.build.__module__}.")
        _launchers[name.lower()] = Launcher(name, id, spaces, build)
        return build

    return register


def all_launchers() -> list[Launcher]:
    """Every launcher, in the order of registration."""
    _load()
    return list(_launchers.values())


def resolve(name: str, settings: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment for a launcher, a registered Gymnasium id, or a user's own launcher or environment.

    Args:
        name: ``CartPole`` (upper or lower case alike), ``CartPole-v1``, ``Reacher-v5``,
            ``ALE/Pong-v5`` or ``module:MyEnv-v0``. An id without a version means the newest one.
            ``module:name`` and ``path/to/file.py:name`` refer to an Experiment, a function that returns
            one, an environment's class, or a function that returns an environment.
        settings: Changes of settings, by dotted name; see `launched_as`.

    Raises:
        UsageError: Nothing is called that (names the three nearest), or a change doesn't fit.
        EnvironmentFault: The environment's own code raised an exception.
    """
    settings = settings or {}
    return launched_as(name, settings).with_changes(settings)


def launched_as(name: str, settings: Mapping[str, Any]) -> Experiment:
    """The experiment for a name as it is before changes are made to it, but with regard to them.

    Args:
        name: As in `resolve`.
        settings: Changes to come, by dotted name. An environment without a launcher is looked at with those
            of ``environment.*``: a wrapper may change its spaces, and it may need arguments.

    Raises:
        UsageError: As in `resolve`.
        EnvironmentFault: As in `resolve`.
    """
    _load()
    found = _launchers.get(name.lower())
    if found is None:
        found = next((known for known in _launchers.values() if known.id == name), None)
    if found is not None:
        return found.experiment()
    of_environment = {key: value for key, value in settings.items() if key.startswith("environment.")}
    own = own_experiment(name, given_arguments(of_environment))
    if isinstance(own, Experiment):
        return own
    id = own or registered_id(name)
    if id is None:
        raise unknown_environment(name)
    found = next((known for known in _launchers.values() if known.id == id), None)
    if found is not None:
        return found.experiment()
    experiment: Experiment = importlib.import_module(GENERIC).generic_experiment(id, of_environment)
    return experiment


def given_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of an environment among changes of settings."""
    whole, prefix = "environment.arguments", "environment.arguments."
    arguments = dict(settings[whole]) if isinstance(settings.get(whole), dict) else {}
    return arguments | {
        key.removeprefix(prefix): each for key, each in settings.items() if key.startswith(prefix)
    }


launcher_experiment = resolve
"""``resolve``, as the Python API calls it."""


def registered_id(name: str) -> str | None:
    """The Gymnasium id that ``name`` means, with its version; None where none is registered."""
    module, colon, bare = name.rpartition(":")
    import_of_id(name)
    known = _gymnasium_ids()
    prefix = module + colon
    if bare in known:
        return name
    by_case = {id.lower(): id for id in known}
    if bare.lower() in by_case:
        return prefix + by_case[bare.lower()]
    versions = [id for id in known if re.fullmatch(re.escape(bare) + r"-v\d+", id, re.IGNORECASE)]
    if versions:
        return prefix + max(versions, key=lambda id: int(id.rpartition("-v")[2]))
    return None


def import_of_id(name: str) -> None:
    """Import what registers an id: the module before a colon, ale_py for ``ALE/...`` and old Atari ids.

    Raises:
        UsageError: The module can't be imported.
    """
    import_named(name)
    import gymnasium

    if name not in gymnasium.registry and importlib.util.find_spec("ale_py") is not None:
        import ale_py

        gymnasium.register_envs(ale_py)


def quiet_emulator() -> None:
    """Keep the Atari emulator from greeting on every rank."""
    if importlib.util.find_spec("ale_py") is not None:
        import ale_py

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def unknown_environment(name: str) -> UsageError:
    """The error for a name nobody knows, with the three nearest that exist."""
    _load()
    names: list[str] = [known.name for known in _launchers.values()]
    names += [known.id for known in _launchers.values()]
    names += _gymnasium_ids()
    own = not_there(name)
    near = own or f"Nearest: {', '.join(nearest(name, names))}."
    return UsageError(f"unknown environment {name!r}. {near}")


def _gymnasium_ids() -> Iterable[str]:
    import gymnasium

    return list(gymnasium.registry)


def _load() -> None:
    """Import every module of launchers, once."""
    if _loaded:
        return
    _loaded.append(True)
    package = importlib.import_module(PACKAGE)
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg]
    for name in sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        if f"{PACKAGE}.{name}" != GENERIC:
            importlib.import_module(f"{PACKAGE}.{name}")
    for point in installed("launcher"):
        try:
            point.load()
        except Exception as error:  # another package's mistake mustn't take ours away
            warnings.warn(f"launchers of {point.name} ({point.value}) can't be loaded: {error}", stacklevel=2)
