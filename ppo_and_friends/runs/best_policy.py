"""A policy that is kept apart from the run's checkpoints, because it was the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.friends.friend import SavePolicy
from ppo_and_friends.runs.checkpoint import save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import spaces_of
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import experiment_settings


def policy_saver(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    declared_space: spaces.Space[Any] | None,
) -> SavePolicy:
    """What friends save a policy with.

    Args:
        experiment: Every setting.
        observation_space: Of one environment, encoded.
        action_space: Of one environment.
        declared_space: Of one environment's observations as it declares them; None: the encoded one.
    """
    about = spaces_of(experiment, observation_space, action_space, declared_space or observation_space)

    def save(folder: Path, tensors: Mapping[str, Tensor], timesteps: int, score: float) -> None:
        state = {"timesteps": timesteps, "score": score, **about}
        extra = {"experiment": experiment_settings(experiment), "score": score}
        save_checkpoint(folder, timesteps, dict(tensors), state, extra, keep=1)

    return save
