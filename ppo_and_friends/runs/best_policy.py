"""Saving a run's best policy so far, separately from the run's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.friends.context import SavePolicy
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.runs.checkpoint import save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import ACTING_FRIENDS, acting_friends, spaces_of
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import experiment_settings


def policy_saver(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    declared_space: spaces.Space[Any] | None,
    friends: Iterable[Friend] = (),
    critic_space: spaces.Box | None = None,
    mask_space: spaces.Box | None = None,
    agents: tuple[str, ...] = (),
) -> SavePolicy:
    """Return the function with which friends save a policy.

    Args:
        experiment: The run's settings.
        observation_space: Encoded observation space of one environment.
        action_space: Action space of one environment.
        declared_space: Observation space of one environment as it declares it; None: the encoded one.
        friends: The run's friends, set up by the time that a policy is saved.
        critic_space: Encoded space of what the critic sees; None: the same.
        mask_space: Of the masks that say which actions are legal; None: all are.
        agents: Those of an environment; empty: a single one.
    """
    declared = declared_space or observation_space
    about = spaces_of(experiment, observation_space, action_space, declared, critic_space, mask_space, agents)

    def save(folder: Path, tensors: Mapping[str, Tensor], timesteps: int, score: float) -> None:
        state = {"timesteps": timesteps, "score": score, **about}
        state[ACTING_FRIENDS] = acting_friends(experiment, friends)
        extra = {"experiment": experiment_settings(experiment), "score": score}
        save_checkpoint(folder, timesteps, dict(tensors), state, extra, keep=1)

    return save
