"""The canonical environment: a single environment as Gymnasium defines it, for evaluation and training."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from ppo_and_friends.common.objects import is_file, one_line, resolve_object
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.settings.overrides import parse_call
from ppo_and_friends.settings.own import environment_maker
from ppo_and_friends.vector.adapter import conform
from ppo_and_friends.vector.creation import (
    CREATION_FRAMES,
    accepts,
    adapting_spec,
    creation_error,
    made,
    parameters,
)
from ppo_and_friends.vector.faults import passing, raised_fault
from ppo_and_friends.vector.simulators import quiet_mujoco

Env = gymnasium.Env[Any, Any]


def make_canonical_env(
    settings: EnvironmentSettings, render_mode: str | None = None, *, training: bool = False
) -> Env:
    """Create one environment with its preprocessing.

    Rewards are never clipped or scaled, and episodes are always complete (in Atari, whole games).

    Args:
        settings: The environment and its preprocessing.
        render_mode: Gymnasium's render mode; None disables rendering.
        training: If the settings end training episodes at a lost Atari life, add a bool to the
            info of each step, under the key `wrappers.LIFE_LOST`.

    Returns:
        The environment. Its observations are as it declares them; for Atari, uint8 pixels
        ``[stack, 84, 84]``, uint8 RAM ``[stack * 128]``, or its bits ``[stack * 1024]``, each 0 or 1.

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


def _make_bare(settings: EnvironmentSettings, render_mode: str | None) -> Env:
    arguments = dict(settings.arguments)
    if settings.atari is not None:
        arguments = _with_atari(arguments, settings.atari)
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    if settings.factory is not None:
        return made(settings.factory, f"{settings.id}: its factory", arguments)
    from ppo_and_friends.settings.registry import import_of_id, quiet_emulator, unknown_environment

    maker = environment_maker(settings.id)
    if maker is not None:
        return made(maker, settings.id, arguments)
    import_of_id(settings.id)
    if settings.atari is not None:
        quiet_emulator()
    quiet_mujoco(settings.id)
    # The environment's own limit would count steps before action repeat and frame skip.
    limit = -1 if settings.max_episode_steps is not None else None
    errors = gymnasium.error
    id = _registered(settings.id)
    try:
        return gymnasium.make(
            adapting_spec(id) or id, max_episode_steps=limit, disable_env_checker=True, **arguments
        )
    except (errors.UnregisteredEnv, errors.DeprecatedEnv) as error:
        raise unknown_environment(settings.id) from error
    except (errors.DependencyNotInstalled, ImportError) as error:
        raise UsageError(f"{settings.id} needs a package that isn't installed: {one_line(error)}") from error
    except errors.Error as error:
        raise UsageError(f"{settings.id} can't be created: {one_line(error)}") from error
    except passing():
        raise
    except BaseException as error:
        raise creation_error(settings.id, arguments, error) from error


def _registered(id: str) -> str:
    """The id without the file path in front of it: Gymnasium accepts module names only."""
    source, _, bare = id.rpartition(":")
    return bare if is_file(source) else id


def _with_atari(arguments: dict[str, Any], atari: AtariSettings) -> dict[str, Any]:
    """A game's arguments, with those that follow from the settings of its preprocessing.

    Raises:
        UsageError: An argument says something else than the settings do.
    """
    ours = {
        "frameskip": 1,  # frames are skipped by the preprocessing
        "repeat_action_probability": atari.repeat_action_probability,
        "obs_type": "rgb" if atari.observation == "pixels" else "ram",
    }
    settings = {
        "frameskip": ("frame_skip", arguments.get("frameskip")),
        "repeat_action_probability": (
            "repeat_action_probability",
            arguments.get("repeat_action_probability"),
        ),
        "obs_type": ("observation", "ram" if arguments.get("obs_type") == "ram" else "pixels"),
    }
    for name, (setting, value) in settings.items():
        if name in arguments and arguments[name] != ours[name]:
            raise UsageError(
                f"environment.arguments: {name}={arguments[name]!r} doesn't fit the game's preprocessing "
                f"(environment.atari).\nUse --set environment.atari.{setting}={value} instead."
            )
    return ours | arguments


def _wrap(env: Env, text: str) -> Env:
    return conform(apply_wrapper(env, text), f"wrapper {text!r}")


def apply_wrapper(env: Any, text: str) -> Any:
    """Wrap in ``module:callable`` or ``module:callable(name=value)``.

    Raises:
        UsageError: There is no such wrapper, or it doesn't take the arguments.
        EnvironmentFault: Its code raised an exception.
    """
    name, arguments = parse_call(text)
    wrapper = resolve_object(name, "wrapper")
    if not callable(wrapper):
        raise UsageError(f"wrapper {name!r} is a {type(wrapper).__name__} and can't be called.")
    try:
        return wrapper(env, **arguments)
    except passing():
        raise
    except BaseException as error:
        if accepts(wrapper, (env,), arguments):
            raise raised_fault(f"wrapper {text!r} failed:", error, CREATION_FRAMES) from error
        raise UsageError(
            f"wrapper {text!r} failed: {one_line(error)}.\n"
            f"Its arguments are given as {name}(name=value, ...); it takes {parameters(wrapper)}."
        ) from error
