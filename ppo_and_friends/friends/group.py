"""All friends of a run, called in order; hooks nobody overrides cost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import (
    Controls,
    Friend,
    FriendContext,
    ObservationStream,
    RolloutRequest,
)
from ppo_and_friends.rollout import Minibatch, RewardStream, Rollout
from ppo_and_friends.vector.protocol import VectorStep

if TYPE_CHECKING:
    from ppo_and_friends.agent import Agent
    from ppo_and_friends.networks.actor_critic import ActorCritic

Array = NDArray[Any]


class FriendGroup(nn.Module):
    """Calls each hook on every friend that has it, in the launcher's order."""

    def __init__(self, friends: Sequence[Friend]) -> None:
        """Take the friends in the order in which to call them.

        Raises:
            UsageError: Two friends have one name, or can't work together.
        """
        super().__init__()
        names = [friend.name for friend in friends]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"Friend {twice[0]} is there twice: remove one, or give it another name.")
        for friend in friends:
            for other in friend.conflicts:
                if other in names or other in [type(each).__name__ for each in friends]:
                    raise UsageError(f"Friends {friend.name} and {other} can't work together: remove one.")
        self.members = nn.ModuleDict(dict(zip(names, friends, strict=True)))
        self._friends = tuple(friends)
        self._overriding: dict[str, tuple[Friend, ...]] = {}

    def __iter__(self) -> Iterator[Friend]:
        """The friends in order."""
        return iter(self._friends)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._friends)

    def _with(self, hook: str) -> tuple[Friend, ...]:
        """The friends that override a hook, looked up once."""
        if hook not in self._overriding:
            own = getattr(Friend, hook)
            self._overriding[hook] = tuple(f for f in self._friends if getattr(type(f), hook) is not own)
        return self._overriding[hook]

    @property
    def streams(self) -> tuple[RewardStream, ...]:
        """Reward streams of all friends. Two of one name raise UsageError."""
        streams = [stream for friend in self._friends for stream in friend.streams]
        names = ["extrinsic", *(stream.name for stream in streams)]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"Reward stream {name!r} is brought by two friends: remove one.")
        return tuple(streams)

    def setup(self, context: FriendContext) -> spaces.Box:
        """Set up all; returns the observation space that the network gets."""
        space = context.observation_space
        for friend in self._friends:
            friend.setup(replace(context, observation_space=space))
            space = friend.observation_space(space)
        for friend in self._with("build"):
            friend.build(space)
        return space

    def adapt(self, network: ActorCritic) -> ActorCritic:
        """Let all adapt the network."""
        for friend in self._with("adapt"):
            network = friend.adapt(network)
        return network

    def attach(self, agent: Agent) -> None:
        """When network and friends are complete."""
        for friend in self._with("attach"):
            friend.attach(agent)

    def before_rollout(self, request: RolloutRequest) -> None:
        """Before each rollout."""
        for friend in self._with("before_rollout"):
            friend.before_rollout(request)

    def transform(self, observations: Array, stream: ObservationStream) -> Array:
        """Observations [B, *obs] as the network gets them."""
        for friend in self._with("transform"):
            observations = friend.transform(observations, stream)
        return observations

    def shape_noise(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Noise [B, noise size] for the next training actions."""
        for friend in self._with("shape_noise"):
            noise = friend.shape_noise(observations, noise)
        return noise

    def observe(self, step: VectorStep) -> None:
        """After each training step."""
        for friend in self._with("observe"):
            friend.observe(step)

    def after_rollout(self, rollout: Rollout) -> None:
        """When a rollout is complete."""
        for friend in self._with("after_rollout"):
            friend.after_rollout(rollout)

    def decode_values(self, stream: str, outputs: Array) -> Array:
        """Critic outputs in the rewards' units."""
        for friend in self._with("decode_values"):
            outputs = friend.decode_values(stream, outputs)
        for friend in self._with("adjust_values"):
            outputs = friend.adjust_values(stream, outputs)
        return outputs

    def after_estimation(self, rollout: Rollout) -> None:
        """When advantages and returns are set."""
        for friend in self._with("after_estimation"):
            friend.after_estimation(rollout)

    def encode_returns(self, stream: str, returns: Array) -> Array:
        """Returns in the critic's units: the reverse of ``decode_values``, in reverse order."""
        for friend in reversed(self._with("encode_returns")):
            returns = friend.encode_returns(stream, returns)
        return returns

    def before_update(self, controls: Controls) -> None:
        """Before the epochs."""
        for friend in self._with("before_update"):
            friend.before_update(controls)

    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Before each epoch; whether any friend asks for a new estimation."""
        return any([friend.before_epoch(epoch, rollout) for friend in self._with("before_epoch")])  # noqa: C419

    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Before a minibatch's losses."""
        for friend in self._with("before_minibatch"):
            friend.before_minibatch(minibatch)

    def losses(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """All friends' loss terms, named ``friend/term``."""
        return {
            f"{friend.name}/{term}": value
            for friend in self._with("loss")
            for term, value in friend.loss(minibatch).items()
        }

    def before_step(self, gradients: Tensor) -> None:
        """Before each gradient step, with the flat gradient over all ranks."""
        for friend in self._with("before_step"):
            friend.before_step(gradients)

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        """After each gradient step."""
        for friend in self._with("after_minibatch"):
            friend.after_minibatch(stats, controls)

    def wants_to_stop(self, stats: dict[str, float]) -> bool:
        """Whether any friend ends the update after this epoch. All are asked."""
        return any([friend.wants_to_stop(stats) for friend in self._with("wants_to_stop")])  # noqa: C419

    def after_update(self, stats: dict[str, float]) -> None:
        """When the update is over."""
        for friend in self._with("after_update"):
            friend.after_update(stats)

    def before_checkpoint(self) -> None:
        """Before the run is saved."""
        for friend in self._with("before_checkpoint"):
            friend.before_checkpoint()

    def finished(self) -> bool:
        """Whether any friend ends the training. All are asked."""
        return any([friend.finished() for friend in self._with("finished")])  # noqa: C419

    def metrics(self) -> dict[str, float]:
        """All friends' numbers, named ``friend/number``."""
        return {
            f"{friend.name}/{key}": float(np.asarray(value))
            for friend in self._with("metrics")
            for key, value in friend.metrics().items()
        }

    def recordings(self) -> dict[str, Path]:
        """Films made in this iteration, the last one of each friend, by its name."""
        return {friend.name: path for friend in self._with("recordings") for path in friend.recordings()}
