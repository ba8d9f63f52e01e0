"""Random network distillation: a reward for observations unlike those seen before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.images import image_axes, is_image
from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.features import feature_network
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.moments import global_moments, merge_moments, moments_of_sums
from ppo_and_friends.friends.normalizers import RewardNormalizer
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import RewardStream, Rollout
from ppo_and_friends.vector.stacking import stacked_frames

Array = NDArray[Any]

CHUNK = 4096
"""Samples whose errors are computed at once; bounds the memory."""


class RND(Friend):
    r"""Novelty: reward observations whose random features a learned predictor doesn't know yet.

    A predictor learns the outputs of a fixed random target network; its error
    :math:`\lVert \hat f(s_{t+1}) - f(s_{t+1}) \rVert^2` is large where little was seen. The reward
    is a stream of its own, not cut at episode ends, with a value head and a discount of its own.
    """

    source = "arXiv:1810.12894"
    reported = (
        Metric("reward", "Mean novelty reward of a step, normalised"),
        Metric("error", "Loss of the predictor, mean over the update"),
    )

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        weight: float = 0.5,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        features: int = 64,
        hidden: tuple[int, ...] = (64, 64),
        lr: float = 1e-4,
        clip: float = 5.0,
        share: float = 1.0,
    ) -> None:
        """Choose how much novelty counts.

        Args:
            weight: Weight of its advantage, the environment's having 1, > 0 (the paper uses 1 to 2).
            gamma: Of its rewards, in [0, 1].
            gae_lambda: Lambda of its advantages, in [0, 1].
            features: Size of the random features.
            hidden: Widths of the target's hidden layers; the predictor has one more.
            lr: Adam's step size for the predictor, > 0.
            clip: Largest absolute value of whitened observations, > 0.
            share: Fraction of the steps that the predictor learns from, in (0, 1] (section 2.2).
        """
        super().__init__()
        if not (weight > 0.0 and lr > 0.0 and clip > 0.0 and features > 0 and 0.0 < share <= 1.0):
            raise UsageError(
                "RND needs weight, lr, clip and features > 0 and share in (0, 1]: "
                f"not {weight}, {lr}, {clip}, {features} and {share}."
            )
        if not (0.0 <= gamma <= 1.0 and 0.0 <= gae_lambda <= 1.0):
            raise UsageError(f"RND: gamma and gae_lambda must be in [0, 1], not {gamma} and {gae_lambda}.")
        self.streams = (RewardStream("novelty", gamma, gae_lambda, episodic=False, weight=weight),)
        self.features, self.hidden, self.learning_rate = features, hidden, lr
        self.clip, self.share = clip, share
        self.normalizer = RewardNormalizer(gamma)
        self.own("normalizer", self.normalizer.state)
        self._mean = float("nan")

    def setup(self, context: FriendContext) -> None:
        """Set up the normalisation of the rewards."""
        super().setup(context)
        self.normalizer.setup(context)

    def rows(self) -> dict[str, Array]:
        """The running sums of its rewards."""
        return self.normalizer.rows()

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on with them."""
        self.normalizer.restore_rows(rows)

    def reads_images(self, space: spaces.Box) -> bool:
        """Of images it makes features by convolutions."""
        return is_image(space)

    def build(self, space: spaces.Box) -> None:
        """Build the target and the predictor."""
        context = self.context
        axes = image_axes(space.shape) if is_image(space) else None
        self._axes = axes
        if axes is not None:
            # Of stacked frames the newest is enough, and the networks are smaller (appendix A.4).
            frames = stacked_frames(context.experiment.environment, context.declared_space)
            self._channels = axes.channels if axes.channels % frames else axes.channels // frames
            shape = (self._channels, axes.height, axes.width)
            space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.count = self.statistic("count", np.zeros(()))
        self.mean = self.statistic("mean", np.zeros(space.shape))
        self.variance = self.statistic("variance", np.ones(space.shape))
        generator = self.weight_generator()

        def network(hidden: tuple[int, ...]) -> torch.nn.Sequential:
            return feature_network(
                space, hidden, self.features, generator, from_bytes=False, gain=np.sqrt(2.0)
            ).to(context.device, context.dtype)

        self.target = self.own("target", network(self.hidden).requires_grad_(False))
        predictor = network((*self.hidden, (*self.hidden, self.features)[-1]))
        self.predictor = self.own("predictor", predictor)
        self._use_statistics()

    def _use_statistics(self) -> None:
        """The statistics as they are now, on the device; frozen until the next rollout is scored."""
        std = np.sqrt(self.variance.numpy())
        scale = np.where(std > 1e-6, 1.0 / np.maximum(std, 1e-6), 1.0)
        device, dtype = self.context.device, self.context.dtype
        self._shift = torch.tensor(self.mean.numpy(), dtype=dtype, device=device)
        self._scale = torch.tensor(scale, dtype=dtype, device=device)

    def _frames(self, observations: Tensor) -> Tensor:
        """Of images the newest frame, [N, its channels, height, width]; else as they are."""
        if self._axes is None:
            return observations
        axis, first = self._axes.channel_axis + 1, self._axes.channels - self._channels
        return observations.narrow(axis, first, self._channels).movedim(axis, 1).contiguous()

    def _errors(self, samples: Tensor) -> Tensor:
        """[N] squared errors of the predictor on the observations of these samples of the rollout."""
        observations = self._observations[samples].to(self._shift.dtype)
        whitened = ((observations - self._shift) * self._scale).clamp(-self.clip, self.clip)
        # A mean over features, so that neither reward nor loss depends on how many there are.
        with torch.no_grad():
            target = self.target(whitened)
        errors: Tensor = (self.predictor(whitened) - target).square().mean(-1)
        return errors

    def after_rollout(self, rollout: Rollout) -> None:
        """Update the observations' statistics, and reward every step for its next observation."""
        envs, steps = rollout.num_envs, rollout.steps
        frames = self._frames(rollout.observations["policy"].flatten(0, 1))
        self._merge_statistics(host_array(frames)[envs:], host_array(rollout.active).reshape(-1))
        self._observations = frames
        self._envs = envs
        self._learned = torch.from_numpy(self._chosen(rollout)).to(rollout.log_probs)
        with torch.no_grad():
            samples = torch.arange(envs, (steps + 1) * envs, device=self.context.device)
            errors = torch.cat([self._errors(part) for part in samples.split(CHUNK)])
        dtype = rollout.rewards["extrinsic"].dtype
        rewards = errors.view(steps, envs).to(dtype) * rollout.active
        rewards = self.normalizer.scaled(rewards, torch.zeros_like(rollout.active), rollout)
        self._mean = float(global_moments(rewards, rollout.active, self.context.communicator)[1])
        rollout.rewards["novelty"] = rewards

    def _merge_statistics(self, observations: Array, valid: Array) -> None:
        """Merge moments of the valid samples of [N, *obs] over all ranks into the run's. Collectives."""
        mean = self.mean.numpy()
        sums = np.zeros((2, *mean.shape))
        centre = mean.copy()
        if self.count.item() == 0.0:
            # Around 0, and not yet a mean, squares of large numbers would drown how much they vary.
            centre = observations[0].astype(np.float64)
            self.context.communicator.broadcast_(centre)
        for start in range(0, len(observations), CHUNK):
            kept = valid[start : start + CHUNK]
            shifted = observations[start : start + CHUNK][kept] - centre
            sums += np.stack([shifted.sum(axis=0), np.square(shifted).sum(axis=0)])
        packed = np.concatenate(([float(valid.sum())], sums.reshape(-1)))
        self.context.communicator.sum_(packed)
        count, new_mean, new_variance = moments_of_sums(packed, centre.reshape(-1))
        merged = merge_moments(
            self.count.item(),
            mean,
            self.variance.numpy(),
            count,
            new_mean.reshape(mean.shape),
            new_variance.reshape(mean.shape),
        )
        for buffer, value in zip((self.count, self.mean, self.variance), merged, strict=True):
            buffer.numpy()[...] = value
        self._use_statistics()

    def _chosen(self, rollout: Rollout) -> Array:
        """[T * B], 1 / share for the steps that the predictor learns from, else 0."""
        chosen = np.ones((rollout.steps, rollout.num_envs))
        if self.share < 1.0:
            first = self.context.layout.first
            for row in range(rollout.num_envs):
                draws = self.generator(rollout.iteration, first + row).random(rollout.steps)
                chosen[:, row] = (draws < self.share) / self.share
        return chosen.reshape(-1)

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """The predictor's error."""
        errors = self._errors(minibatch.samples + self._envs)
        return {"error": minibatch.mean(errors * self._learned[minibatch.samples])}

    def metrics(self) -> dict[str, float]:
        """The mean novelty reward of a step, after normalisation."""
        return {"reward": self._mean}
