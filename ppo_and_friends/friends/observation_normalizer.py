"""A friend that normalises observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.moments import check_epsilon, merge_moments, moments_of_sums, moved_sums
from ppo_and_friends.ppo.hooks import EpisodeHistory, RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.vector.protocol import Data, VectorStep

Array = NDArray[Any]

KEPT_NUMBERS = 2**19
"""Numbers that ObservationNormalizer keeps before it adds them up: 4 MB."""

SMALLEST_DEVIATION = 1e-6
"""Of an observation component: one that varied by less is taken for constant."""

NO_HISTORY = EpisodeHistory(episode_starts=np.zeros(0, bool))
"""For a transform that needs none."""


class ObservationNormalizer(Friend):
    """Shift and scale each observation component by its running mean and standard deviation.

    The statistics are frozen during a rollout, so that every observation of an update was seen by
    the network in the same units; they are merged over the ranks after it. They are saved as a part of the
    policy, and stay as they are in evaluations and tests.
    """

    source = "arXiv:2006.05990, section 3.3"
    takes_tensors = True

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, epsilon: float = 1e-8) -> None:
        """Start with no statistics: the first rollout's observations pass unchanged.

        Args:
            epsilon: Added to the variance, >= 0.
        """
        super().__init__()
        check_epsilon("ObservationNormalizer", epsilon)
        self.epsilon = epsilon

    def setup(self, context: FriendContext) -> None:
        """Refuse images: their 3-axis statistics mean nothing, and the CNN scales bytes itself."""
        super().setup(context)
        shape = context.observation_space.shape
        if len(shape) > 1:
            raise UsageError(
                f"ObservationNormalizer works on vectors, not on observations of shape {shape}: "
                "use --without ObservationNormalizer."
            )
        self._critic: ObservationNormalizer | None = None
        if context.critic_space is not None:
            self._critic = ObservationNormalizer(self.epsilon)
            self._critic.setup(replace(context, observation_space=context.critic_space, critic_space=None))
            self.own("critic", self._critic.state)
        self.count = self.statistic("count", np.zeros(()))
        self.mean = self.statistic("mean", np.zeros(shape))
        self.variance = self.statistic("variance", np.ones(shape))
        # This rank's last steps, around the frozen mean for accuracy, and the sums of those before.
        width = max(1, context.layout.local * int(np.prod(shape)))
        steps = min(context.steps, max(1, KEPT_NUMBERS // width))
        self._kept: Data = np.zeros((steps, context.layout.local, *shape))
        # Only for several agents, which may be gone: their rows then hold what was seen long ago.
        self._acted: Array | None = np.zeros((steps, context.layout.local), bool) if context.agents else None
        self._sent: tuple[Array, Tensor, Tensor] | None = None
        self._step = 0
        self._sums: Array = np.zeros(1 + 2 * shape[0])
        self._first: Data | None = None
        double = context.observation_space.dtype == np.float64
        self._rounding = 4.0 * float(np.finfo(np.float64 if double else np.float32).eps)
        self._shifted: Data = np.zeros((0, *shape))
        self._frozen: tuple[float, Array, Array] = (-1.0, np.zeros(shape), np.ones(shape))

    def observation_space(self, space: spaces.Box) -> spaces.Box:
        """Unbounded floats."""
        dtype = np.float64 if space.dtype == np.float64 else np.float32
        return spaces.Box(-np.inf, np.inf, space.shape, dtype)

    def critic_observation_space(self, space: spaces.Box) -> spaces.Box:
        """Unbounded floats."""
        return self.observation_space(space)

    def transform_critic(self, observations: Data) -> Data:
        """As ``transform``, with statistics of their own."""
        assert self._critic is not None
        return self._critic.transform(observations, NO_HISTORY)

    def statistics(self) -> tuple[Array, Array]:
        """Mean and 1 / standard deviation, [*obs] each; anew when the statistics changed or were loaded."""
        count = self.count.item()
        if self._frozen[0] != count:
            variance = self.variance.numpy()
            mean = self.mean.numpy().copy()
            # A component that never varied, but for rounding, must not blow up what little it does later.
            varied = np.sqrt(variance) > np.maximum(SMALLEST_DEVIATION, self._rounding * np.abs(mean))
            scale = 1.0 / np.where(varied, np.sqrt(variance + self.epsilon), 1.0)
            self._frozen = (count, mean, scale)
        return self._frozen[1], self._frozen[2]

    def transform(self, observations: Data, history: EpisodeHistory) -> Data:
        """(o - mean) / standard deviation."""
        mean: Data
        scale: Data
        mean, scale = self.statistics()
        if isinstance(observations, Tensor):
            mean, scale = self._on_device(mean, scale, observations.device)
        # Kept for the sums, and not the observations: the next step may write into their memory.
        self._shifted = observations - mean
        return self._shifted * scale

    def _on_device(self, mean: Array, scale: Array, device: torch.device) -> tuple[Tensor, Tensor]:
        """The frozen statistics as tensors, sent there once a rollout."""
        if self._sent is None or self._sent[0] is not mean:
            tensors = [torch.from_numpy(each).to(device) for each in (mean, scale)]
            self._sent = (mean, tensors[0], tensors[1])
        return self._sent[1:]

    def before_rollout(self, request: RolloutRequest) -> None:
        """Forget what a rollout that was broken off left behind."""
        if self._critic is not None:
            self._critic.before_rollout(request)
        self._step = 0
        self._sums[:] = 0.0
        self._first = None

    def observe(self, step: VectorStep) -> None:
        """Keep the observation that was acted on: a sum of many steps costs less than one for each."""
        if self._critic is not None:
            self._critic.observe(step)
        if isinstance(self._shifted, Tensor) and not isinstance(self._kept, Tensor):
            self._kept = torch.zeros(self._kept.shape, dtype=torch.float64, device=self._shifted.device)
        self._kept[self._step] = self._shifted
        if self._acted is not None:
            self._acted[self._step] = step.active
        self._step += 1
        if self._step == len(self._kept):
            self._add_up()

    def _add_up(self) -> None:
        """Add the number, the sum and the sum of squares of what is kept to those before."""
        seen = self._kept[: self._step].reshape(-1, self._kept.shape[-1])
        if self._acted is not None:
            seen = seen[self._acted[: self._step].reshape(-1)]
        if self.count.item() == 0.0 and len(seen):
            # Around 0, and not yet a mean, squares of large numbers would drown how much they vary.
            if self._first is None:
                self._first = 1.0 * seen[0]
            seen -= self._first
        if isinstance(seen, Tensor):
            total, squares = host_array(torch.stack((seen.sum(dim=0), seen.square().sum(dim=0))))
        else:
            # Squares summed as they are made: an array of them would be as large as what is kept.
            total, squares = seen.sum(axis=0), np.einsum("ij,ij->j", seen, seen)
        self._sums += np.concatenate(([float(len(seen))], total, squares))
        self._step = 0

    def after_rollout(self, rollout: Rollout) -> None:
        """Merge the rollout's statistics over the ranks into the run's."""
        if self._critic is not None:
            self._critic.after_rollout(rollout)
        self._add_up()
        centre = self.statistics()[0]
        packed = self._sums.copy()
        if self.count.item() == 0.0:
            # All ranks' sums around the first observation of the first environment of all.
            ours = np.zeros_like(centre) if self._first is None else host_array(self._first)
            first = ours.copy()
            self.context.communicator.broadcast_(first)
            packed = moved_sums(packed, ours - first)
            centre = centre + first
        self.context.communicator.sum_(packed)
        if packed[0] == 0:  # nobody acted
            return
        merged = merge_moments(
            self.count.item(),
            self.mean.numpy(),
            self.variance.numpy(),
            *moments_of_sums(packed, centre),
        )
        for buffer, value in zip((self.count, self.mean, self.variance), merged, strict=True):
            buffer.numpy()[...] = value
