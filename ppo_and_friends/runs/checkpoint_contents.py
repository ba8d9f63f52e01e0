"""What a checkpoint of a run holds, and whether it fits the run that asks for it."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.errors import IncompatibleState
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.settings.experiment import Experiment, NetworkSettings
from ppo_and_friends.settings.migration import ANNEALING, migrated_network
from ppo_and_friends.settings.overrides import as_values, differences
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.vector.space_descriptions import describe
from ppo_and_friends.vector.spaces import declared_space

RAW_SPACE = "raw_observation_space"

SHOWN = 4
"""Most differences that a message shows."""


def capture(trainer: Trainer, seconds: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that training goes on from.

    Args:
        trainer: Between two iterations.
        seconds: Training time so far.

    Returns:
        Tensors by name (not copies), and plain data.
    """
    tensors = trainer.agent.tensors()
    tensors |= {f"optimizer.{name}": tensor for name, tensor in trainer.optimizer.state().items()}
    envs = trainer.collector.envs
    state = {
        "iteration": trainer.iteration,
        "timesteps": trainer.timesteps,
        "seconds": seconds,
        "episodes": trainer.episodes.total,
        "recent_scores": list(trainer.episodes.recent),
        "highest": dict(trainer.highest.numbers),
        **spaces_of(trainer.experiment, envs.observation_space, envs.action_space, declared_space(envs)),
    }
    return tensors, state


def spaces_of(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    declared: spaces.Space[Any],
) -> dict[str, Any]:
    """What a checkpoint says of the environment: its identity, and what its observations are like.

    Args:
        experiment: Every setting.
        observation_space: Of one environment, encoded.
        action_space: Of one environment.
        declared: Of one environment's observations as it declares them: for whoever uses the policy
            without the environment.
    """
    return {
        RAW_SPACE: describe(declared),
        "identity": identity(experiment, observation_space, action_space),
    }


def identity(
    experiment: Experiment, observation_space: spaces.Box, action_space: spaces.Space[Any]
) -> dict[str, Any]:
    """What must be the same for a saved state to be used: environment, spaces, network, precision."""
    return settings_identity(experiment) | {
        "observation_space": describe(observation_space),
        "action_space": describe(action_space),
    }


def settings_identity(experiment: Experiment) -> dict[str, Any]:
    """The part of ``identity`` that is known without making the environment."""
    settings = experiment_settings(experiment)
    names = ("id", "arguments", "atari", "action_repeat", "wrappers")
    return {
        "environment": {name: settings["environment"][name] for name in names},
        "network": settings["network"],
        "precision": settings["precision"],
    }


def check_identity(checkpoint: Checkpoint, asked: dict[str, Any]) -> None:
    """Refuse a state of another environment, other spaces or another network.

    Args:
        checkpoint: Verified.
        asked: An ``identity``, or a part of one.

    Raises:
        IncompatibleState: Names each difference and what to do.
    """
    saved = dict(checkpoint.state["identity"])
    saved["network"] = migrated_network(saved["network"])
    # A setting that is younger than the checkpoint had its default's effect.
    saved["network"] = as_values(NetworkSettings()) | saved["network"]
    found = differences({name: saved.get(name) for name in asked}, asked)
    if not found:
        return
    lines = [f"{name} is {_short(new)}, saved: {_short(old)}" for name, (old, new) in found.items()]
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    raise IncompatibleState(
        f"The state saved in {checkpoint.path} doesn't fit: {'; '.join(lines[:SHOWN])}{more}.\n"
        "Ask for the saved settings, give another --state_path, or start over with --clobber."
    )


def restore_agent(agent: Agent, checkpoint: Checkpoint) -> list[str]:
    """Load parameters and buffers.

    Args:
        agent: Of the same identity as the saved one; its friends may be others.
        checkpoint: Verified.

    Returns:
        Notes: friends that were not saved and start afresh, and saved ones that aren't there now.

    Raises:
        IncompatibleState: A tensor has another shape.
    """
    own = agent.tensors()
    saved = {name: t for name, t in checkpoint.tensors.items() if not name.startswith("optimizer.")}
    fresh, gone = set(), {_owner(name) for name in saved if name not in own}
    for name, tensor in own.items():
        if name not in saved:
            if not name.startswith("friends."):
                raise IncompatibleState(
                    f"The state saved in {checkpoint.path} lacks {name}; --clobber starts over."
                )
            fresh.add(_owner(name))
        elif saved[name].shape != tensor.shape:
            raise IncompatibleState(
                f"The state saved in {checkpoint.path} doesn't fit: {name} has shape {list(tensor.shape)}, "
                f"saved: {list(saved[name].shape)}. Use the saved friends and settings, or --clobber."
            )
    for name, tensor in own.items():
        if name in saved:
            tensor.data.copy_(saved[name])
    notes = [f"Friend {name} is new: it starts afresh." for name in sorted(fresh)]
    return notes + [
        f"Friend {name} was saved and isn't used now." for name in sorted(gone - fresh - set(ANNEALING))
    ]


def restore_trainer(trainer: Trainer, checkpoint: Checkpoint) -> list[str]:
    """Load everything that ``capture`` took; returns notes for the user.

    Raises:
        IncompatibleState: The state doesn't fit.
    """
    envs = trainer.collector.envs
    check_identity(checkpoint, identity(trainer.experiment, envs.observation_space, envs.action_space))
    notes = restore_agent(trainer.agent, checkpoint)
    prefix = "optimizer."
    moments = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
    notes += [f"Adam starts afresh for {name}." for name in trainer.optimizer.load(moments)]
    state = checkpoint.state
    trainer.iteration, trainer.timesteps = state["iteration"], state["timesteps"]
    trainer.episodes.total = state["episodes"]
    trainer.episodes.recent.extend(state["recent_scores"])
    trainer.highest.numbers.update(state.get("highest", {}))
    return notes


def _owner(name: str) -> str:
    """The friend's name in ``friends.<name>.<tensor>``."""
    return name.split(".")[1]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
