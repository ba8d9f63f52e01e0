"""The canonical environment: a single environment as Gymnasium defines it, for evaluation and training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from ppo_and_friends.common.objects import described, is_file, resolve_object
from ppo_and_friends.errors import EnvironmentFault, PPOError, UsageError
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.settings.overrides import parse_call
from ppo_and_friends.settings.own import environment_maker
from ppo_and_friends.vector.simulators import quiet_mujoco


def make_canonical_env(
    settings: EnvironmentSettings, render_mode: str | None = None, *, training: bool = False
) -> gymnasium.Env[Any, Any]:
    """Create one environment with its preprocessing.

    Rewards are never clipped or scaled, and episodes are always complete (in Atari, whole games).

    Args:
        settings: The environment and its preprocessing.
        render_mode: Gymnasium's render mode; None disables rendering.
        training: If the settings end training episodes at a lost Atari life, add ``life_lost`` (bool)
            to the info of each step.

    Returns:
        The environment. Its observations are as it declares them; for Atari, uint8 pixels
        ``[stack, 84, 84]`` or uint8 RAM ``[stack * 128]``.

    Raises:
        UsageError: The id is unknown, a dependency isn't installed, or the arguments are wrong.
        EnvironmentFault: The environment's own code raised an exception.
    """
    env = _make_bare(settings, render_mode)
    if settings.atari is not None:
        from ppo_and_friends.vector.wrappers.atari import preprocess

        env = preprocess(env, settings.atari)
    if settings.action_repeat > 1:
        from ppo_and_friends.vector.wrappers.action_repeat import ActionRepeat

        env = ActionRepeat(env, settings.action_repeat)
    if settings.max_episode_steps is not None:
        env = TimeLimit(env, settings.max_episode_steps)
    for name in settings.wrappers:
        env = _wrap(env, name)
    if training and settings.atari is not None and settings.atari.life_loss_ends_episode:
        from ppo_and_friends.vector.wrappers.atari import LifeLossInfo

        env = LifeLossInfo(env)
    return env


def _make_bare(settings: EnvironmentSettings, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    arguments = dict(settings.arguments)
    if settings.atari is not None:
        arguments = _atari_arguments(settings.atari) | arguments
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    if settings.factory is not None:
        try:
            env = settings.factory(**arguments)
        except Exception as error:
            problem = f"{type(error).__name__}: {_line(error)}"
            raise EnvironmentFault(f"{settings.id}: its factory failed: {problem}") from error
        if not isinstance(env, gymnasium.Env):
            raise UsageError(
                f"{settings.id}: its factory returned an object of type {type(env).__name__}, "
                "which is not a gymnasium.Env."
            )
        return env
    from ppo_and_friends.settings.registry import import_of_id, quiet_emulator, unknown_environment

    maker = environment_maker(settings.id)
    if maker is not None:
        return _make_own(maker, settings.id, arguments)
    import_of_id(settings.id)
    if settings.atari is not None:
        quiet_emulator()
    quiet_mujoco(settings.id)
    # The environment's own limit would count steps before action repeat and frame skip.
    limit = -1 if settings.max_episode_steps is not None else None
    errors = gymnasium.error
    try:
        return gymnasium.make(
            _registered(settings.id), max_episode_steps=limit, disable_env_checker=True, **arguments
        )
    except (errors.UnregisteredEnv, errors.DeprecatedEnv) as error:
        raise unknown_environment(settings.id) from error
    except (errors.DependencyNotInstalled, ImportError) as error:
        raise UsageError(f"{settings.id} needs a package that isn't installed: {_line(error)}") from error
    except errors.Error as error:
        raise UsageError(f"{settings.id} can't be created: {_line(error)}") from error
    except TypeError as error:
        raise UsageError(f"{settings.id} doesn't accept its arguments {arguments}: {_line(error)}") from error
    except Exception as error:
        raise EnvironmentFault(
            f"{settings.id} can't be created: {type(error).__name__}: {_line(error)}"
        ) from error


def _make_own(maker: Callable[..., Any], id: str, arguments: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Make an environment from its class or factory function."""
    try:
        env = maker(**arguments)
    except PPOError:
        raise
    except TypeError as error:
        raise UsageError(f"{id} refuses its arguments {arguments}: {_line(error)}.") from error
    except Exception as error:
        raise EnvironmentFault(f"{id} can't be made: {described(error)}.") from error
    if not isinstance(env, gymnasium.Env):
        raise UsageError(f"{id} returned a {type(env).__name__}, which is not a gymnasium.Env.")
    return env


def _registered(id: str) -> str:
    """The id without the file path in front of it: Gymnasium accepts module names only."""
    source, _, bare = id.rpartition(":")
    return bare if is_file(source) else id


def _atari_arguments(atari: AtariSettings) -> dict[str, Any]:
    return {
        "frameskip": 1,  # frames are skipped by the preprocessing
        "repeat_action_probability": atari.repeat_action_probability,
        "obs_type": "ram" if atari.observation == "ram" else "rgb",
    }


def _wrap(env: gymnasium.Env[Any, Any], text: str) -> gymnasium.Env[Any, Any]:
    """Wrap in ``module:callable`` or ``module:callable(name=value)``."""
    name, arguments = parse_call(text)
    wrapper = resolve_object(name, "wrapper")
    if not callable(wrapper):
        raise UsageError(f"wrapper {name!r} is a {type(wrapper).__name__} and can't be called.")
    try:
        wrapped = wrapper(env, **arguments)
    except TypeError as error:
        raise UsageError(
            f"wrapper {text!r} failed: {described(error)}.\n"
            f"Its arguments are given as {name}(name=value, ...); it takes {_parameters(wrapper)}."
        ) from error
    except Exception as error:
        raise UsageError(f"wrapper {name!r} failed: {described(error)}.") from error
    if not isinstance(wrapped, gymnasium.Env):
        raise UsageError(
            f"wrapper {name!r} returned an object of type {type(wrapped).__name__}, "
            "which is not a gymnasium.Env."
        )
    return wrapped


def _parameters(wrapper: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(wrapper))
    except (TypeError, ValueError):
        return "what its documentation says"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
