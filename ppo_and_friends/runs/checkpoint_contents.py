"""The content of a run's checkpoints, and checks that a checkpoint is compatible with a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.errors import IncompatibleState
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.saved_tensors import check_moments, check_tensors
from ppo_and_friends.settings.experiment import Experiment, NetworkSettings
from ppo_and_friends.settings.migration import ANNEALING, migrated_network, renamed
from ppo_and_friends.settings.overrides import as_values, differences
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.vector.protocol import agents_of
from ppo_and_friends.vector.space_descriptions import describe
from ppo_and_friends.vector.spaces import declared_space

RAW_SPACE = "raw_observation_space"
CRITIC_SPACE = "critic_space"
MASK_SPACE = "mask_space"
ACTING_FRIENDS = "acting_friends"
AGENTS = "agents"

ACTING = ("observation_space", "transform", "adapt", "shape_noise")
"""Hooks that a policy needs to act."""

SHOWN = 4
"""Maximum number of differences listed in an error message."""


def capture(trainer: Trainer, seconds: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Collect everything that is needed to resume training.

    Args:
        trainer: The trainer, between two iterations.
        seconds: Training time so far, in seconds.

    Returns:
        The tensors by name (not copies), and all other data as JSON values.
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
        "latest": dict(trainer.highest.latest),
        ACTING_FRIENDS: acting_friends(trainer.experiment, friends_of(trainer.agent)),
        **spaces_of(
            trainer.experiment,
            envs.observation_space,
            envs.action_space,
            declared_space(envs),
            envs.other_spaces.get("critic"),
            envs.other_spaces.get("action_mask"),
            agents_of(envs),
        ),
    }
    return tensors, state


def acting_friends(experiment: Experiment, friends: Iterable[Friend]) -> list[str]:
    """Names, as the experiment has them, of the friends without which the policy can't act.

    These change what it sees, its network or its noise.

    Args:
        experiment: The run's settings.
        friends: Its friends, set up.
    """
    return [
        spec.name
        for spec, friend in zip(experiment.friends, friends, strict=True)
        if friend.streams or any(getattr(type(friend), hook) is not getattr(Friend, hook) for hook in ACTING)
    ]


def spaces_of(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    declared: spaces.Space[Any],
    critic_space: spaces.Box | None = None,
    mask_space: spaces.Box | None = None,
    agents: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return what a checkpoint records about the environment: its identity and its observation space.

    Args:
        experiment: The run's settings.
        observation_space: Encoded observation space of one environment.
        action_space: Action space of one environment.
        declared: Observation space of one environment as it declares it, for use of the policy without
            the environment.
        critic_space: Encoded space of what the critic sees; None: the same.
        mask_space: Of the masks that say which actions are legal; None: all are.
        agents: Those of an environment; empty: a single one.
    """
    return {
        RAW_SPACE: describe(declared),
        "identity": identity(experiment, observation_space, action_space, critic_space, mask_space, agents),
    }


def identity(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    critic_space: spaces.Box | None = None,
    mask_space: spaces.Box | None = None,
    agents: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return what must agree with a saved state to use it: environment, spaces, network and precision.

    Args:
        experiment: The run's settings.
        observation_space: Encoded observation space of one environment.
        action_space: Action space of one environment.
        critic_space: Encoded space of what the critic sees; None: the same.
        mask_space: Of the masks that say which actions are legal; None: all are.
        agents: Those of an environment; empty: a single one.
    """
    others = {CRITIC_SPACE: critic_space, MASK_SPACE: mask_space}
    return settings_identity(experiment) | {
        "observation_space": describe(observation_space),
        "action_space": describe(action_space),
        **{name: describe(space) for name, space in others.items() if space is not None},
        **({AGENTS: list(agents)} if agents else {}),
    }


def settings_identity(experiment: Experiment) -> dict[str, Any]:
    """Return the part of ``identity`` that is known before an environment is created."""
    settings = experiment_settings(experiment)
    names = ("id", "arguments", "atari", "action_repeat", "wrappers")
    return {
        "environment": {name: settings["environment"][name] for name in names},
        "network": settings["network"],
        "precision": settings["precision"],
    }


def check_identity(checkpoint: Checkpoint, asked: dict[str, Any]) -> None:
    """Check that a checkpoint was saved with the same environment, spaces, network and precision.

    Args:
        checkpoint: The checkpoint, verified.
        asked: An ``identity``, or a part of one, that it must match.

    Raises:
        IncompatibleState: It doesn't match; names the differences and what to do.
    """
    saved = dict(checkpoint.state["identity"])
    saved["network"] = migrated_network(saved["network"])
    # Settings added since the checkpoint was written have defaults that change nothing.
    saved["network"] = as_values(NetworkSettings()) | saved["network"]
    found = differences({name: saved.get(name) for name in asked}, asked)
    if not found:
        return
    if found.get(MASK_SPACE, (True,))[0] is None:
        raise IncompatibleState(
            f"The state saved in {checkpoint.path} was trained without the environment's action masks: go on "
            "without them by --set environment.action_masks=off --accept_changes,\n"
            "train beside it with --run_name, or start over with --clobber."
        )
    lines = [f"{name} is {_short(new)} (saved: {_short(old)})" for name, (old, new) in found.items()]
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    raise IncompatibleState(
        f"The state saved in {checkpoint.path} is not compatible: {'; '.join(lines[:SHOWN])}{more}.\n"
        "Use the saved settings, train beside it with --run_name, or start over with --clobber."
    )


def restore_agent(agent: Agent, checkpoint: Checkpoint, experiment: Experiment | None = None) -> list[str]:
    """Restore an agent's parameters and buffers.

    Args:
        agent: An agent with the same ``identity`` as the saved one; its friends may differ.
        checkpoint: The checkpoint, verified.
        experiment: The agent's settings; None: unknown, and then what doesn't fit may be due to them.

    Returns:
        Notes for the user: friends without saved state, and saved friends that the agent doesn't have.

    Raises:
        CheckpointError: A tensor doesn't fit, though the settings on which it depends are the saved ones.
        IncompatibleState: A tensor doesn't fit.
    """
    own = agent.tensors()
    saved = {name: t for name, t in checkpoint.tensors.items() if not name.startswith("optimizer.")}
    check_tensors(agent, saved, checkpoint, experiment)
    added = {_owner(name) for name in own if name not in saved}
    removed = {_owner(name) for name in saved if name not in own}
    for name, tensor in own.items():
        if name in saved:
            tensor.data.copy_(saved[name])
    unused = removed - added - set(ANNEALING)
    notes = [f"Friend {name} has no saved state: it starts from its initial state." for name in sorted(added)]
    return notes + [f"Friend {name} has a saved state but is not used now." for name in sorted(unused)]


def restore_trainer(trainer: Trainer, checkpoint: Checkpoint) -> list[str]:
    """Restore everything that ``capture`` collected.

    Args:
        trainer: The trainer, before its first iteration.
        checkpoint: The checkpoint, verified.

    Returns:
        Notes for the user about state that could not be restored.

    Raises:
        CheckpointError: The checkpoint's content can't be this run's. Nothing was changed.
        IncompatibleState: The checkpoint is not compatible with the trainer.
    """
    envs = trainer.collector.envs
    others = envs.other_spaces.get("critic"), envs.other_spaces.get("action_mask")
    asked = identity(trainer.experiment, envs.observation_space, envs.action_space, *others, agents_of(envs))
    check_identity(checkpoint, {MASK_SPACE: None} | asked)
    prefix = "optimizer."
    moments = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
    check_moments(trainer.optimizer.state(all_groups=True), moments, checkpoint, trainer.experiment)
    notes = restore_agent(trainer.agent, checkpoint, trainer.experiment)
    notes += [f"Adam's moments are reset for {name}." for name in trainer.optimizer.load(moments)]
    state = checkpoint.state
    trainer.iteration, trainer.timesteps = state["iteration"], state["timesteps"]
    trainer.episodes.total = state["episodes"]
    for one in (trainer.episodes.recent, trainer.highest.numbers, trainer.highest.latest):
        one.clear()  # a newer checkpoint may have been tried before
    trainer.episodes.recent.extend(state["recent_scores"])
    trainer.highest.numbers.update(renamed(state.get("highest", {}), RENAMED_METRICS))
    trainer.highest.latest.update(renamed(state.get("latest", {}), RENAMED_METRICS))
    return notes


def _owner(name: str) -> str:
    """Return the friend's name from ``friends.<name>.<tensor>``."""
    return name.split(".")[1]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
