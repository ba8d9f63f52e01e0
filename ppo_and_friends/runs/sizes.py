"""What became of the sizes that were asked for, and what a run computes with."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.vector.protocol import agents_of

TOLERANCE = 1.1
"""Sizes that were asked for are met up to this factor without a word."""


def has_convolutions(agent: Agent) -> bool:
    """Whether the network or a friend has layers that are faster on all cores of the process."""
    modules: list[nn.Module] = [agent.network, *(friend.state for friend in friends_of(agent))]
    return agent.network.convolutional or any(
        isinstance(layer, _ConvNd) for module in modules for layer in module.modules()
    )


def size_notes(trainer: Trainer) -> list[str]:
    """Sentences on a rollout or a minibatch that isn't of the size that was asked for.

    Every environment takes part in each with one step at least, or with one chunk of steps.
    """
    settings, rows = trainer.settings, trainer.layout.total
    each = f"each of {rows:,} {'agents' if agents_of(trainer.collector.envs) else 'environments'}"
    rollout = trainer.collector.steps * rows
    minibatch = rollout / trainer.num_minibatches
    notes = []
    if max(rollout / settings.rollout_timesteps, settings.rollout_timesteps / rollout) > TOLERANCE:
        notes.append(
            f"A rollout has {rollout:,} timesteps, not {settings.rollout_timesteps:,} "
            f"(ppo.rollout_timesteps): {trainer.collector.steps:,} of {each}."
        )
    if minibatch > TOLERANCE * settings.minibatch_size:
        length = trainer.collector.sequence_length
        least = "a step" if length == 1 else f"{length} consecutive steps"
        reason = f": it has {least} of {each}" if rows * length >= minibatch else ""
        notes.append(
            f"A minibatch has {minibatch:,.0f} timesteps, not {settings.minibatch_size:,} "
            f"(ppo.minibatch_size){reason}."
        )
    return notes
