"""A trainer's policy as a checkpoint in memory, and the agent that a checkpoint holds."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import find_friend
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.allocation import no_larger_than
from ppo_and_friends.runs.build import build_agent
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import (
    ACTING_FRIENDS,
    AGENTS,
    CRITIC_SPACE,
    MASK_SPACE,
    capture,
    check_identity,
    restore_agent,
    settings_identity,
)
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.space_descriptions import restore


def policy_checkpoint(trainer: Trainer) -> Checkpoint:
    """A trainer's current policy as a checkpoint in memory.

    Args:
        trainer: Between two iterations.

    Returns:
        Copies of parameters and statistics, without the optimizer's state.
    """
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in trainer.agent.tensors().items()}
    _, state = capture(trainer, seconds=0.0)
    # As if read from a file: tuples become lists.
    return Checkpoint(Path(), trainer.timesteps, tensors, json.loads(json.dumps(state)), manifest={})


def restored_agent(experiment: Experiment, checkpoint: Checkpoint) -> Agent:
    """Restore the network and the friends for inference, without creating an environment.

    Args:
        experiment: The settings it was trained with.
        checkpoint: The checkpoint, verified.

    Raises:
        IncompatibleState: The checkpoint doesn't fit the settings.
        UsageError: A friend that the policy needs can't be imported.
    """
    check_identity(checkpoint, settings_identity(experiment))
    experiment = without_missing_friends(experiment, checkpoint)
    identity = checkpoint.state["identity"]
    observation_space = restore(identity["observation_space"])
    assert isinstance(observation_space, spaces.Box)
    critic_space, mask_space = (
        restore(identity[name]) if name in identity else None for name in (CRITIC_SPACE, MASK_SPACE)
    )
    with no_larger_than(checkpoint):
        agent = build_agent(
            experiment,
            observation_space,
            restore(identity["action_space"]),
            SoloCommunicator(),
            Layout(1, 0, 1),
            steps=1,
            critic_space=critic_space,  # type: ignore[arg-type]
            mask_space=mask_space,  # type: ignore[arg-type]
            agents=tuple(identity.get(AGENTS, ())),
        )
    restore_agent(agent, checkpoint, experiment)
    return agent


def without_missing_friends(experiment: Experiment, checkpoint: Checkpoint) -> Experiment:
    """The experiment without friends that can't be imported and that the policy can act without.

    A warning names them. Whether a friend is needed was recorded when the checkpoint was written.

    Raises:
        UsageError: A friend that is, or may be, needed can't be imported.
    """
    kept = []
    for spec in experiment.friends:
        try:
            if spec.kind is None:
                find_friend(spec.name)
        except UsageError as error:
            needed = checkpoint.state.get(ACTING_FRIENDS)
            if needed is None or spec.name in needed:
                raise UsageError(
                    f"The policy in {checkpoint.path} needs a friend of its training. {error}"
                ) from error
            warnings.warn(f"The policy acts without {spec.name}, which can't be imported.", stacklevel=3)
        else:
            kept.append(spec)
    return replace(experiment, friends=tuple(kept))
