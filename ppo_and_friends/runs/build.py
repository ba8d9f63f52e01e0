"""Building the agent and the trainer from an experiment's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.common.images import is_image
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.devices import choose_device
from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.distributed.timed_communicator import TimedCommunicator
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.friend import FriendContext
from ppo_and_friends.friends.group import (
    FriendGroup,
    check_groups,
    check_memory,
    check_ownership,
    check_tensors,
    friends_of,
)
from ppo_and_friends.networks.actor_critic import reads_images
from ppo_and_friends.networks.build import make_network
from ppo_and_friends.networks.joint_mapping import action_mapping
from ppo_and_friends.networks.kernels.direct_gradients import direct_gradients
from ppo_and_friends.networks.kernels.fused_layers import fuse_layers
from ppo_and_friends.networks.kernels.fused_loss import fused_ppo_loss
from ppo_and_friends.networks.kernels.fused_memory import fuse_memory
from ppo_and_friends.networks.kernels.inference import act_function
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.collector import Collector
from ppo_and_friends.ppo.losses import ppo_loss
from ppo_and_friends.ppo.minibatches import chunk_length
from ppo_and_friends.ppo.optimizer import FlatOptimizer, ParameterGroup
from ppo_and_friends.ppo.rollout import RewardStream
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.best_policy import policy_saver
from ppo_and_friends.runs.saved_policy import load_saved_policy
from ppo_and_friends.runs.teachers import teacher_loader
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.protocol import VectorEnv, agents_of
from ppo_and_friends.vector.spaces import declared_space
from ppo_and_friends.vector.tasks import give_tasks


def build_agent(
    experiment: Experiment,
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    communicator: Communicator,
    layout: Layout,
    steps: int,
    folder: Path | None = None,
    declared_space: spaces.Space[Any] | None = None,
    critic_space: spaces.Box | None = None,
    mask_space: spaces.Box | None = None,
    agents: tuple[str, ...] = (),
    stopwatch: Stopwatch | None = None,
    in_company: Callable[[Any], Any] | None = None,
) -> Agent:
    """Create the network and the friends, identical on all ranks. Collective.

    Args:
        experiment: The run's settings.
        observation_space: Encoded observation space of one environment.
        action_space: Action space of one environment.
        communicator: The ranks.
        layout: This rank's rows.
        steps: T, the rollout's length.
        folder: The run's folder, for friends that write files; None: there is none.
        declared_space: Observation space of one environment as it declares it; None: unknown.
        critic_space: Encoded space of what the critic sees; None: the same.
        mask_space: Of the masks that say which actions are legal; None: all are.
        agents: Those of an environment, which share this network; empty: a single one.
        stopwatch: Told what friends spend in evaluations; None: nobody asks.
        in_company: Adds the policies of other agents for evaluations; None: there are none.

    Raises:
        UsageError: The spaces, the network and the friends are not compatible.
    """
    settings = experiment.network
    dtype = torch.float64 if experiment.precision == "float64" else torch.float32
    randomness = Randomness(experiment.random_seed)
    mapping = action_mapping(action_space, squash=settings.squash)
    if mask_space is not None:
        mapping.distribution.expect_masks()
    friends = FriendGroup([make_friend(spec) for spec in experiment.friends])
    # A model of the user's own may have convolutions wherever there are images.
    images = reads_images(observation_space, settings)
    images |= settings.model is not None and is_image(observation_space)
    images |= any(friend.reads_images(observation_space) for friend in friends)
    device = choose_device(experiment.device, communicator, convolutions=images)
    space = friends.setup_all(
        FriendContext(
            experiment=experiment,
            communicator=communicator,
            observation_space=observation_space,
            action_space=action_space,
            distribution=mapping.distribution,
            layout=layout,
            steps=steps,
            randomness=randomness,
            device=device,
            dtype=dtype,
            critic_space=critic_space,
            mask_space=mask_space,
            environment_space=observation_space,
            declared_space=declared_space,
            agents=agents,
            folder=folder,
            save_policy=policy_saver(
                experiment,
                observation_space,
                action_space,
                declared_space,
                friends,
                critic_space,
                mask_space,
                agents,
            ),
            load_policy=load_saved_policy,
            load_teacher=teacher_loader(build_agent, communicator, experiment.device),
            stopwatch=stopwatch or Stopwatch(),
            in_company=in_company or (lambda policy: policy),
        )
    )
    extrinsic = RewardStream("extrinsic", experiment.ppo.gamma, experiment.ppo.gae_lambda)
    streams = (extrinsic, *friends.all_streams)
    generator = torch.Generator().manual_seed(randomness.integer(Purpose.INITIALISATION))
    network = make_network(
        space,
        mapping.distribution,
        settings,
        [stream.name for stream in streams],
        generator,
        friends.critic_space,
        len(agents),
    ).to(device, dtype)
    network = friends.adapt(network)
    if experiment.kernels == "fast":
        for module in (network, *(friend.state for friend in friends)):
            fuse_layers(module)
            fuse_memory(module)
    check_ownership(friends, network)
    check_memory(friends, network)
    check_groups(friends, network)
    agent = Agent(network, friends, mapping, streams, space, device, dtype, friends.critic_space, mask_space)
    for tensor in agent.tensors().values():
        broadcast_(tensor, communicator)
    friends.attach(agent)
    return agent


def broadcast_(tensor: Tensor, communicator: Communicator) -> None:
    """Replace a tensor, in place, with rank 0's. Collective."""
    if communicator.size == 1:
        return
    flat = tensor.detach().cpu().flatten().clone()
    communicator.broadcast_(flat.numpy())
    tensor.data.copy_(flat.view(tensor.shape))


def build_trainer(
    experiment: Experiment,
    communicator: Communicator,
    envs: VectorEnv,
    folder: Path | None = None,
    make: Callable[..., Trainer] = Trainer,
    in_company: Callable[[Any], Any] | None = None,
) -> Trainer:
    """Create the trainer of a run, with all its parts. Collective.

    Args:
        experiment: The run's settings.
        communicator: The ranks.
        envs: This rank's environments, ``divide(num_envs, rank, size).local`` of them, with a row an agent.
        folder: The run's folder, for friends that write files; None: there is none.
        make: Puts the parts together.
        in_company: Adds the policies of other agents for evaluations; None: there are none.

    Raises:
        UsageError: The spaces, the network and the friends are not compatible.
    """
    stopwatch = Stopwatch()
    # From here on, so that friends' collectives are measured like the trainer's.
    communicator = TimedCommunicator(communicator, stopwatch.measure("communication"))
    agents = agents_of(envs)
    share = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
    layout = share.times(max(1, len(agents)))
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
        envs.other_spaces.get("critic"),
        envs.other_spaces.get("action_mask"),
        agents,
        stopwatch,
        in_company,
    )
    check_tensors(FriendGroup(friends_of(agent)), envs.device)
    fast = experiment.kernels == "fast"
    collector = Collector(
        envs,
        agent.network,
        agent.friends,
        agent.mapping,
        Randomness(experiment.random_seed),
        layout,
        steps=steps,
        sequence_length=chunk_length(
            experiment.ppo.sequence_length, steps, memory=agent.network.state_size > 0
        ),
        spaces=agent.spaces,
        device=agent.device,
        dtype=agent.dtype,
        stopwatch=stopwatch,
        act_function=act_function if fast else lambda network: network.act,
    )
    for friend in friends_of(agent):
        if friend.has("choose_task"):
            give_tasks(envs, collector.task_of, friend.name)
    optimizer = FlatOptimizer(
        _parameter_groups(agent),
        epsilon=experiment.ppo.adam_epsilon,
        max_grad_norm=experiment.ppo.max_grad_norm,
    )
    return make(
        experiment,
        communicator=communicator,
        layout=layout,
        collector=collector,
        agent=agent,
        optimizer=optimizer,
        stopwatch=stopwatch,
        loss=fused_ppo_loss if fast else ppo_loss,
        shortcut=direct_gradients if fast and not _adds_to_the_loss(agent) else None,
    )


def _adds_to_the_loss(agent: Agent) -> bool:
    """Whether there is more to differentiate than the network and PPO's loss."""
    return agent.mask_space is not None or any(friend.has("loss") for friend in friends_of(agent))


def _parameter_groups(agent: Agent) -> list[ParameterGroup]:
    """Group the parameters by learning rate: PPO's group, which includes friends without one, comes first."""
    ppo = _trainable(agent.network)
    others = []
    for friend in friends_of(agent):
        parameters = [p for p in _trainable(friend.state) if not any(p is known for known in ppo)]
        if friend.learning_rate is None:
            ppo += parameters
        else:
            others.append(ParameterGroup(friend.name, parameters, friend.learning_rate))
    return [ParameterGroup("ppo", ppo, None), *others]


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
