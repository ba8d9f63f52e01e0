"""What a friend may know about the run, and what it may ask the run to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.randomness import Randomness
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Hooks
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.settings.experiment import Experiment

Other = TypeVar("Other")


class SavePolicy(Protocol):
    """What saves a policy apart from the run's checkpoints."""

    def __call__(self, folder: Path, tensors: Mapping[str, Tensor], timesteps: int, score: float) -> None:
        """Write one policy as the only one of a folder.

        Args:
            folder: Where.
            tensors: Parameters and buffers of network and friends, as ``Agent.tensors`` names them.
            timesteps: Agent steps it was trained for.
            score: Why it is kept: the mean return of its episodes.

        Raises:
            CheckpointError: It can't be written.
        """
        ...


@dataclass(frozen=True)
class SavedPolicy:
    """A policy that a friend starts from."""

    tensors: Mapping[str, Tensor]
    """Parameters and buffers, as ``Agent.tensors`` names them."""

    observation_space: Any
    """Of encoded observations, as `vector.space_descriptions.describe` has it."""

    action_space: Any
    """Of encoded actions, likewise."""


LoadPolicy = Callable[[Path], SavedPolicy]
"""Reads a saved policy; raises UsageError or CheckpointError."""


@dataclass(frozen=True)
class Teacher:
    """The whole agent of another run."""

    agent: Agent
    observation_space: spaces.Box
    """Of encoded observations before any of its friends."""


LoadTeacher = Callable[[Path], Teacher]
"""Restores another run's agent on every rank. A collective; raises UsageError or CheckpointError."""


@dataclass(frozen=True)
class FriendContext:
    """What a friend may know about the run."""

    experiment: Experiment
    """Every setting."""

    communicator: Communicator
    """The ranks. Collectives only in setup, after_rollout, after_estimation, before_minibatch
    (expensive: once a gradient step), after_update and before_checkpoint, and never under a condition that
    can differ by rank."""

    observation_space: spaces.Box
    """Of one environment's encoded observations, as the next friend or the network gets them."""

    action_space: spaces.Space[Any]
    """Of one environment."""

    distribution: Distribution
    """What the policy draws actions from."""

    layout: Layout
    """Which environments are this rank's."""

    steps: int
    """T, the rollout's length."""

    randomness: Randomness
    """Counter-based random numbers; use ``Purpose.FRIENDS``."""

    device: torch.device
    """Where the networks live."""

    dtype: torch.dtype
    """Precision of parameters and losses."""

    critic_space: spaces.Box | None = None
    """Of what the critic sees, as the next friend or the network gets it; None: what the policy sees."""

    mask_space: spaces.Box | None = None
    """Of the masks that say which actions are legal; None: all are."""

    environment_space: spaces.Box | None = None
    """Of encoded observations before any friend; an ``EncodedBox`` says which part is where."""

    declared_space: spaces.Space[Any] | None = None
    """Of one environment's observations as it declares them, not encoded; None: unknown."""

    agents: tuple[str, ...] = ()
    """Those of an environment, which share the policy: row b is agent b modulo their number. Empty: one."""

    folder: Path | None = None
    """Where the run is kept, for friends that write files (on rank 0 alone); None: nowhere."""

    save_policy: SavePolicy | None = None
    """Writes a policy into a folder, on rank 0 alone; None: nothing can be saved."""

    load_policy: LoadPolicy | None = None
    """Reads a policy of another run, on rank 0 alone."""

    load_teacher: LoadTeacher | None = None
    """Restores a whole agent of another run. A collective."""

    in_company: Callable[[Any], Any] = lambda policy: policy
    """Makes of the policy what an evaluation plays: itself, or with it the policies of other agents."""

    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Told what takes time and isn't training: ``with stopwatch.measure("evaluation")``. Collectives are
    measured by themselves."""

    friends: tuple[Hooks, ...] = ()
    """All friends of the run, this one among them, in the order of their calls."""

    def others(self, kind: type[Other]) -> tuple[Other, ...]:
        """The run's friends of a class."""
        return tuple(friend for friend in self.friends if isinstance(friend, kind))
