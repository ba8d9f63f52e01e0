"""The hooks of training: what the trainer calls, when, and with what.

`Hooks` is the one statement of them. A friend overrides those that it needs; a group of friends calls each on
all that have it, in the way that the hook's decorator names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.settings.schedules import Status
from ppo_and_friends.vector.protocol import Data, Observations, Task, VectorStep

Array = NDArray[Any]
Call = Callable[..., Any]
Hook = TypeVar("Hook", bound=Call)


@dataclass
class Controls:
    """The step sizes of an update: set from the schedules each iteration, friends may change them."""

    learning_rate: float
    """Adam's step size for the actor and critic."""

    clip_range: float
    """Clip range of the probability ratio."""

    entropy_coefficient: float
    """Weight of the entropy bonus."""

    status: Status = Status(0.0)
    """Progress of the run: the share done before this iteration, numbers including this one's rollout."""

    status_after: Status = Status(0.0)
    """The same with the share done after this iteration, for what holds from then on."""

    timesteps: int = 0
    """Agent steps of the run, this iteration's included."""

    stop: bool = False
    """Set after a minibatch to end the update there. Must be equal on all ranks."""


@dataclass
class EpisodeHistory:
    """What friends know of B episodes beside their current observations: a rollout's, or an evaluation's."""

    episode_starts: Data
    """[B] bool, where the observation is the first of an episode."""

    last_actions: Data | None = None
    """[B, A], the actions taken since the previous observation, as the policy stores them."""

    memory: dict[str, Any] = field(default_factory=dict)
    """A stateful friend's own place, by its name: copied, kept and dropped with the history."""


@dataclass
class RolloutRequest:
    """What friends may ask for before a rollout is collected."""

    noise: Array
    """[T, B, noise size] float32, the exploration noise; may be changed in place or replaced."""

    iteration: int
    """The iteration that begins, 1-based."""

    reset: bool = False
    """Set to start all environments of all ranks afresh. Must be equal on all ranks."""

    status: Status = Status(0.0)
    """Progress of the run."""


@dataclass(frozen=True)
class Episode:
    """A training episode that is about to begin, by numbers that don't depend on the layout."""

    environment: int
    """Its environment's global index."""

    since: int
    """The iteration in which all environments were last started afresh, 1-based."""

    number: int
    """Episodes that its environment began since then, before this one."""


def all_of(calls: Sequence[Call], *arguments: Any) -> None:
    """Call all, in order."""
    for call in calls:
        call(*arguments)


def pipe(calls: Sequence[Call], value: Any, *arguments: Any) -> Any:
    """Pass a value through all, in order: each receives the previous one's result."""
    for call in calls:
        value = call(value, *arguments)
    return value


def pipe_back(calls: Sequence[Call], value: Any, *arguments: Any) -> Any:
    """Pass a value through all, in reverse order."""
    return pipe(calls[::-1], value, *arguments)


def any_of(calls: Sequence[Call], *arguments: Any) -> bool:
    """Whether any returns True. All are called, since each may change its state or make collectives."""
    return any([call(*arguments) for call in calls])  # noqa: C419


def union(calls: Sequence[Call], *arguments: Any) -> dict[str, Any]:
    """The union of the dictionaries that all return."""
    return {name: value for call in calls for name, value in call(*arguments).items()}


def combined_by(combine: Callable[..., Any]) -> Callable[[Hook], Hook]:
    """Declare the decorated method a hook, and say how a group calls it on its members."""

    def declare(hook: Hook) -> Hook:
        hook.combine = combine  # type: ignore[attr-defined]
        return hook

    return declare


class Hooks:
    """What a training calls, in the order of the methods here. Every one does nothing by default."""

    def tensors(self) -> dict[str, Tensor]:
        """Called for checkpoints: what must be saved, the tensors themselves by name."""
        return {}

    @combined_by(all_of)
    def before_rollout(self, request: RolloutRequest) -> None:
        """Called before each rollout; may change the noise or ask for a reset."""

    @combined_by(pipe)
    def choose_task(self, task: Task, episode: Episode) -> Task:
        """Called before each of this rank's training episodes: what to ask for in it. No collectives."""
        return task

    @combined_by(pipe)
    def transform(self, observations: Data, history: EpisodeHistory) -> Data:
        """Called on what the policy sees, in training and in evaluation; [B, *obs] to [B, *obs']."""
        return observations

    @combined_by(pipe)
    def transform_critic(self, observations: Data) -> Data:
        """Called in training on the critic's own observations, if it has any; [B, *obs] to [B, *obs']."""
        return observations

    @combined_by(pipe)
    def shape_noise(self, noise: Tensor, observations: Tensor) -> Tensor:
        """Called before training actions are sampled, with [B, noise size] and [B, *obs']."""
        return noise

    @combined_by(pipe)
    def replace_actions(
        self, actions: Tensor, seen: Mapping[str, Tensor], noise: Tensor, starts: Tensor
    ) -> Tensor:
        """Called with a training step's sampled actions [B, A]; what is done instead.

        Rows with other actions than the policy's mustn't stay active in the rollout.

        Args:
            actions: [B, A], may be changed in place.
            seen: By name, [B, *obs'], what the network saw.
            noise: [B, noise size], that the actions were sampled with.
            starts: [B] bool, where these are the first observations of an episode.
        """
        return actions

    @combined_by(all_of)
    def observe(self, step: VectorStep) -> None:
        """Called after each training step, to gather this rank's statistics. No collectives."""

    @combined_by(all_of)
    def after_rollout(self, rollout: Rollout) -> None:
        """Called when a rollout is complete; may change rewards and merge statistics over ranks."""

    @combined_by(pipe)
    def decode_values(self, outputs: Tensor, reward_stream: str) -> Tensor:
        """Called before estimation; returns the critic's outputs in the rewards' units, [T+1, B]."""
        return outputs

    @combined_by(pipe)
    def adjust_values(self, values: Tensor, reward_stream: str) -> Tensor:
        """Called after all of decode_values: [T+1, B] in the rewards' units, to be bootstrapped from."""
        return values

    @combined_by(all_of)
    def after_estimation(self, rollout: Rollout) -> None:
        """Called when advantages and returns are set (and again each time they are)."""

    @combined_by(pipe_back)
    def encode_returns(self, returns: Tensor, reward_stream: str) -> Tensor:
        """Called after estimation: returns in the critic's units, [T, B]. Undoes decode_values."""
        return returns

    @combined_by(all_of)
    def before_update(self, controls: Controls) -> None:
        """Called before the epochs; may change this iteration's step sizes."""

    @combined_by(any_of)
    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Called before each epoch (from 0). True asks for values and advantages to be recomputed."""
        return False

    @combined_by(all_of)
    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Called before a minibatch's losses; may change its tensors."""

    @combined_by(union)
    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """Called for each minibatch; named terms to add to PPO's loss (use ``minibatch.mean``)."""
        return {}

    @combined_by(all_of)
    def before_step(self, gradients: Tensor) -> None:
        """Called with the flat gradient of all parameters, summed over ranks; change it in place."""

    @combined_by(all_of)
    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """Called after each gradient step with its statistics over all ranks; may change step sizes."""

    @combined_by(any_of)
    def wants_to_stop(self, stats: dict[str, float]) -> bool:
        """Called after each epoch with its mean statistics over all ranks. True ends the update."""
        return False

    @combined_by(all_of)
    def after_update(self, stats: dict[str, float]) -> None:
        """Called when the update is over, with the iteration's statistics over all ranks."""

    @combined_by(union)
    def metrics(self) -> dict[str, float]:
        """Called once an iteration on every rank; numbers to report, equal on all ranks."""
        return {}

    @combined_by(union)
    def recordings(self) -> dict[str, Path]:
        """Called once an iteration, after metrics; videos recorded since the last call, on rank 0 only."""
        return {}

    @combined_by(all_of)
    def before_checkpoint(self) -> None:
        """Called before the run is saved, also at its end; write what is pending. Collectives allowed."""

    @combined_by(any_of)
    def finished(self) -> bool:
        """Called after each iteration, equal on all ranks. True ends the training."""
        return False


def transformed(friends: Hooks, observations: Observations, history: EpisodeHistory) -> Observations:
    """Observations as the network sees them: friends change what actor and critic see, and no mask."""
    seen = {**observations, "policy": friends.transform(observations["policy"], history)}
    if "critic" in seen:
        seen["critic"] = friends.transform_critic(seen["critic"])
    return seen
