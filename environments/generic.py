"""Default settings for environments without a launcher, derived from their spaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.common.nested import parts
from ppo_and_friends.common.objects import is_file
from ppo_and_friends.settings.experiment import (
    AtariSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.vector.parallel import makes_several_agents, spaces_and_agents
from ppo_and_friends.vector.spaces import check_action_space, encoded_space, leaves

NUM_TIMESTEPS = 1_000_000


def generic_experiment(id: str, settings: Mapping[str, Any] | None = None) -> Experiment:
    """Return an experiment for any registered Gymnasium id, or an environment of PettingZoo's.

    Images are trained with the Nature CNN and the usual settings for Atari; everything else with an MLP
    and with normalised observations and rewards. One-hot observations are not normalised.

    Args:
        id: An id that ``gymnasium.make`` accepts, or the name of a class or function.
        settings: Changes to come of ``environment.*``, by dotted name. The defaults are for the environment
            with these changes, since wrappers and arguments may change the spaces.

    Raises:
        UsageError: The environment can't be created, its spaces aren't supported, or a change doesn't fit.
        EnvironmentFault: The environment's own code raised an exception.
    """
    atari = atari_settings(id)
    name = folder_name(id)
    environment = EnvironmentSettings(id=id, num_envs=8 if atari else 16, atari=atari)
    whole = Experiment(name=name, environment=environment, num_timesteps=NUM_TIMESTEPS)
    changed = whole.with_changes(settings).environment
    if changed.api == "petting_zoo" or makes_several_agents(changed):
        environment = replace(environment, api="petting_zoo")
        changed = replace(changed, api="petting_zoo")
    observation_space, action_space, agents = spaces_and_agents(changed, shared=False)
    check_action_space(action_space)
    encoded = encoded_space(observation_space)
    one_hot = not any(isinstance(leaf.space, spaces.Box) for leaf in leaves(observation_space))
    continuous = any(isinstance(part, spaces.Box) for _, part in parts(action_space))
    if encoded.dtype == np.uint8:
        return _images(name, environment, pixels=len(encoded.shape) == 3)
    normalise = () if one_hot else (friend("ObservationNormalizer"), friend("ObservationClip", limit=10.0))
    return Experiment(
        name=name,
        environment=environment,
        num_timesteps=NUM_TIMESTEPS,
        ppo=PPOSettings(
            rollout_timesteps=4096 if not agents else 1024 * len(agents),
            minibatch_size=512 if continuous else 256,
            epochs=10,
            learning_rate=linear(3e-4 if continuous else 5e-4),
            entropy_coefficient=Schedule(0.0 if continuous else 0.01),
        ),
        friends=(
            *normalise,
            friend("RewardNormalizer"),
            friend("RewardClip", low=-10.0, high=10.0),
            friend("AdvantageNormalizer"),
        ),
    )


def _images(name: str, environment: EnvironmentSettings, *, pixels: bool) -> Experiment:
    """The usual settings for Atari (Mnih et al. 2015; arXiv:1707.06347, table 5), for pixels or RAM."""
    is_atari = environment.atari is not None
    return Experiment(
        name=name,
        environment=environment,
        num_timesteps=10_000_000 if is_atari else NUM_TIMESTEPS,
        ppo=PPOSettings(
            rollout_timesteps=1024 if is_atari else 2048,
            minibatch_size=256,
            epochs=4,
            learning_rate=linear(2.5e-4),
            clip_range=Schedule(0.1),
            entropy_coefficient=Schedule(0.01),
        ),
        network=NetworkSettings()
        if pixels
        else NetworkSettings(actor_hidden=(256, 256), critic_hidden=(256, 256), activation="relu"),
        friends=(*(() if is_atari else (friend("RewardNormalizer"),)), friend("AdvantageNormalizer")),
    )


def atari_settings(id: str) -> AtariSettings | None:
    """Return the standard Atari preprocessing, with the frame skip and sticky actions of the id.

    Returns:
        None if the id isn't an Atari game, or is an old id that skips a random number of frames, for
        which there is no equivalent fixed frame skip.
    """
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is None or "ale_py" not in str(spec.entry_point):
        return None
    known: dict[str, Any] = spec.kwargs
    skip = known.get("frameskip")
    if not isinstance(skip, int):
        return None
    # Ids with a frame skip of 1 are meant to be used with a frame skip in the preprocessing.
    return AtariSettings(
        observation="ram" if known.get("obs_type") == "ram" else "pixels",
        frame_skip=4 if skip == 1 else skip,
        repeat_action_probability=float(known.get("repeat_action_probability", 0.0)),
    )


def folder_name(id: str) -> str:
    """The id as the name of a folder, such as ``ALE-Pong-v5``; of a file, its name without the path."""
    source, colon, name = id.rpartition(":")
    if is_file(source):
        id = f"{Path(source).stem}{colon}{name}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", id).strip("-.") or "environment"
