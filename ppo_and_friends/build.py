"""From an experiment to the parts of a trainer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ppo_and_friends.agent import Agent, build_agent
from ppo_and_friends.collector import Collector
from ppo_and_friends.communicator import Communicator
from ppo_and_friends.experiment import Experiment
from ppo_and_friends.optimizer import FlatOptimizer, ParameterGroup
from ppo_and_friends.randomness import Randomness
from ppo_and_friends.stopwatch import Stopwatch
from ppo_and_friends.trainer import Trainer
from ppo_and_friends.vector.protocol import VectorEnv, divide
from ppo_and_friends.vector.spaces import declared_space

TIMED = ("environment", "inference", "update", "communication")
"""Parts of an iteration whose time is reported."""


def build_trainer(
    experiment: Experiment, communicator: Communicator, envs: VectorEnv, folder: Path | None = None
) -> Trainer:
    """Make everything a run trains with.

    Args:
        experiment: Every setting.
        communicator: Collectives are made.
        envs: This rank's environments, ``divide(num_envs, rank, size).local`` of them.
        folder: Where the run is kept, for friends that write files; None: nowhere.
    """
    layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
    steps = max(1, round(experiment.ppo.rollout_timesteps / layout.total))
    agent = build_agent(
        experiment,
        envs.observation_space,
        envs.action_space,
        communicator,
        layout,
        steps,
        folder,
        declared_space(envs),
    )
    stopwatch = Stopwatch(TIMED)
    collector = Collector(
        envs,
        agent.network,
        agent.friends,
        agent.mapping,
        Randomness(experiment.random_seed),
        layout,
        steps=steps,
        space=agent.space,
        device=agent.device,
        dtype=agent.dtype,
        stopwatch=stopwatch,
    )
    optimizer = FlatOptimizer(
        _parameter_groups(agent),
        epsilon=experiment.ppo.adam_epsilon,
        max_gradient_norm=experiment.ppo.max_gradient_norm,
    )
    return Trainer(
        experiment,
        communicator=communicator,
        layout=layout,
        collector=collector,
        agent=agent,
        optimizer=optimizer,
        stopwatch=stopwatch,
    )


def _parameter_groups(agent: Agent) -> list[ParameterGroup]:
    """PPO's parameters with those of friends that follow its step size, then the others'."""
    ppo = _trainable(agent.network)
    own = []
    for friend in agent.friends:
        parameters = [p for p in _trainable(friend) if not any(p is known for known in ppo)]
        if friend.learning_rate is None:
            ppo += parameters
        else:
            own.append(ParameterGroup(friend.name, parameters, friend.learning_rate))
    return [ParameterGroup("ppo", ppo, None), *own]


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
