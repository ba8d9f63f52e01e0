"""The protocol of friends: plug-ins that change what PPO learns from, or how.

A friend overrides the hooks it needs; the others do nothing and cost nothing. What it must remember
is a parameter or a buffer: then checkpoints, the broadcast at the start and the check that all
ranks agree come for free. ``docs/friends.md`` shows the hooks in the order of their calls.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.randomness import Purpose
from ppo_and_friends.rollout import Minibatch, RewardStream, Rollout
from ppo_and_friends.vector.protocol import Layout, VectorStep

if TYPE_CHECKING:
    from ppo_and_friends.agent import Agent
    from ppo_and_friends.communicator import Communicator
    from ppo_and_friends.experiment import Experiment
    from ppo_and_friends.networks.actor_critic import ActorCritic
    from ppo_and_friends.networks.distributions import Distribution
    from ppo_and_friends.randomness import Randomness

Array = NDArray[Any]


@dataclass(frozen=True)
class FriendContext:
    """What a friend may know about the run."""

    experiment: Experiment
    """Every setting."""

    communicator: Communicator
    """The ranks. Collectives only in setup, after_rollout, after_estimation, before_minibatch (a dear
    place), after_update and before_checkpoint, and never under a condition that can differ by rank."""

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
    """Counter-based random streams; use ``Purpose.FRIENDS``."""

    device: torch.device
    """Where the networks live."""

    dtype: torch.dtype
    """Precision of parameters and losses."""

    environment_space: spaces.Box | None = None
    """Of encoded observations before any friend; an ``EncodedBox`` says which part is where."""

    declared_space: spaces.Space[Any] | None = None
    """Of one environment's observations as it declares them, not encoded; None: unknown."""

    folder: Path | None = None
    """Where the run is kept, for friends that write files (on rank 0 alone); None: nowhere."""


@dataclass
class Controls:
    """The step sizes of an update: set from the schedules each iteration, friends may change them."""

    learning_rate: float
    """Adam's step size for the actor and critic."""

    clip: float
    """Clip range of the probability ratio."""

    entropy_weight: float
    """Weight of the entropy bonus."""

    progress: float = 0.0
    """Share of the run's timesteps that was done before this iteration, in [0, 1]."""

    timesteps: int = 0
    """Agent steps of the run, this iteration's included."""

    stop: bool = False
    """Set after a minibatch to end the update there. Must be equal on all ranks."""


@dataclass
class ObservationStream:
    """B streams of observations that go through the friends: a rollout's, or an evaluation's."""

    fresh: Array
    """[B] bool, where the observation is the first of an episode."""

    last_actions: Array | None = None
    """[B, A], the actions taken since the previous observation, as the policy stores them."""

    memory: dict[str, Any] = field(default_factory=dict)
    """A stateful friend's own place, by its name: copied, kept and dropped with the stream."""


@dataclass
class RolloutRequest:
    """What friends may ask for before a rollout is collected."""

    noise: Array
    """[T, B, noise size] float32, the exploration noise; may be changed in place or replaced."""

    iteration: int
    """The iteration that begins, 1-based."""

    reset: bool = False
    """Set to start all environments of all ranks afresh. Must be equal on all ranks."""

    progress: float = 0.0
    """Share of the run's timesteps that is done, in [0, 1]."""


class Friend(nn.Module):
    """Base of all friends. Subclasses take their settings as typed keyword arguments."""

    streams: tuple[RewardStream, ...] = ()
    """Reward streams it brings, each with a value head of its own. Set by the end of ``setup``."""

    learning_rate: float | None = None
    """Adam step size of its own parameters; None: the same as PPO's."""

    source: str = ""
    """The paper it comes from."""

    conflicts: tuple[str, ...] = ()
    """Names of friends that can't be in a run with it; saying so on one side is enough."""

    context: FriendContext

    def __init__(self) -> None:
        """Take no settings; subclasses that have some call this first."""
        super().__init__()

    @property
    def name(self) -> str:
        """Unique in the run; the key of its state in checkpoints."""
        return type(self).__name__

    def setup(self, context: FriendContext) -> None:
        """Called once, before the network exists, with the space that earlier friends left."""
        self.context = context

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """Called once after setup; what ``transform`` makes of the space."""
        return space

    def build(self, space: spaces.Box) -> None:
        """Called once after all setups, with the space of a rollout's observations; make networks here."""

    def adapt(self, network: ActorCritic) -> ActorCritic:
        """Called once, before the optimizer exists; may change or wrap the network."""
        return network

    def attach(self, agent: Agent) -> None:
        """Called once, when network and friends are complete; for friends that use the whole policy."""

    def before_rollout(self, request: RolloutRequest) -> None:
        """Called before each rollout; may change the noise or ask for a reset."""

    def transform(self, observations: Array, stream: ObservationStream) -> Array:
        """Called on every observation, in training and in evaluation; [B, *obs] to [B, *obs']."""
        return observations

    def shape_noise(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Called before each drawing of training actions, with [B, *obs'] and [B, noise size]."""
        return noise

    def observe(self, step: VectorStep) -> None:
        """Called after each training step, to gather this rank's statistics. No collectives."""

    def after_rollout(self, rollout: Rollout) -> None:
        """Called when a rollout is complete; may change rewards and merge statistics over ranks."""

    def decode_values(self, stream: str, outputs: Array) -> Array:
        """Called before estimation: the critic's outputs in the rewards' units, [T+1, B]."""
        return outputs

    def adjust_values(self, stream: str, values: Array) -> Array:
        """Called after all of decode_values: [T+1, B] in the rewards' units, to be bootstrapped from."""
        return values

    def after_estimation(self, rollout: Rollout) -> None:
        """Called when advantages and returns are set (and again each time they are)."""

    def encode_returns(self, stream: str, returns: Array) -> Array:
        """Called after estimation: returns in the critic's units, [T, B]. Undoes decode_values."""
        return returns

    def before_update(self, controls: Controls) -> None:
        """Called before the epochs; may change this iteration's step sizes."""

    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Called before each epoch (from 0). True asks for values and advantages to be made anew."""
        return False

    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Called before a minibatch's losses; may change its tensors."""

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """Called for each minibatch; named terms to add to PPO's loss (use ``minibatch.mean``)."""
        return {}

    def before_step(self, gradients: Tensor) -> None:
        """Called with the flat gradient of all parameters, summed over ranks; change it in place."""

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """Called after each gradient step with its statistics over all ranks; may change step sizes."""

    def wants_to_stop(self, stats: dict[str, float]) -> bool:
        """Called after each epoch with its mean statistics over all ranks. True ends the update."""
        return False

    def after_update(self, stats: dict[str, float]) -> None:
        """Called when the update is over, with the iteration's statistics over all ranks."""

    def before_checkpoint(self) -> None:
        """Called before the run is saved, at its end too; write what waits. Collectives allowed."""

    def finished(self) -> bool:
        """Called after each iteration, equal on all ranks. True ends the training."""
        return False

    def metrics(self) -> dict[str, float]:
        """Called once an iteration on every rank; numbers to report, equal on all ranks."""
        return {}

    def recordings(self) -> tuple[Path, ...]:
        """Called once an iteration, after metrics; films made since the last call, on rank 0 alone."""
        return ()

    def add_statistic(self, name: str, value: NDArray[np.float64] | Tensor) -> None:
        """Make a float64 buffer for statistics; it is saved, broadcast and checked.

        Unlike other buffers it keeps its precision when the networks are float32.
        """
        self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64))

    def generator(self, *position: int) -> np.random.Generator:
        """This friend's own random stream at a position (up to three numbers, the last below 2^32).

        Put the global environment index in it where environments must not depend on the layout.
        """
        first, second, third = (*position, *(0,) * (3 - len(position)))
        place = (zlib.crc32(self.name.encode()) << 32) | third
        return self.context.randomness.generator(Purpose.FRIENDS, first, second, place)

    def weight_generator(self) -> torch.Generator:
        """Source of the initial weights of a friend's networks, the same on all ranks."""
        return torch.Generator().manual_seed(int(self.generator().integers(2**62)))
