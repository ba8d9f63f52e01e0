"""Friends that normalise the critic's targets, so that it can learn returns of any magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.moments import global_moments, merge_moments
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]

SMALLEST_DEVIATION = 1e-4
"""Least standard deviation of returns that is divided by."""


class ValueNormalizer(Friend):
    """Let the critic learn returns shifted and scaled by their running mean and standard deviation.

    The statistics are of all returns so far, or, with a ``decay``, mostly of recent ones. They
    change once an iteration, after the estimation, for each reward stream on its own.
    """

    source = "arXiv:2006.05990, section 3.3"
    reported = (
        Metric("mean", "Running mean of the environment's lambda-returns", "reward"),
        Metric("std", "Their running standard deviation", "reward"),
    )
    conflicts = ("PopArt",)

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, decay: float | None = None) -> None:
        """Start with no statistics.

        Args:
            decay: Weight of the old statistics in an iteration, in [0, 1); None: by their count.
        """
        super().__init__()
        if decay is not None and not 0.0 <= decay < 1.0:
            raise UsageError(f"{self.name}: decay must be at least 0 and below 1, not {decay}.")
        self.decay = decay
        self._updated = -1

    def adapt(self, network: Model) -> Model:
        """Make statistics for each of the network's streams."""
        self._names = network.streams
        self._network = network
        self.count = self.statistic("count", np.zeros(len(self._names)))
        self.mean = self.statistic("mean", np.zeros(len(self._names)))
        self.variance = self.statistic("variance", np.ones(len(self._names)))
        return network

    def _statistics(self, stream: str) -> tuple[float, float]:
        """Mean and standard deviation of a stream's returns; 0 and 1 before any were seen."""
        index = self._names.index(stream)
        variance = self.variance[index].item()
        return self.mean[index].item(), max(variance**0.5, SMALLEST_DEVIATION)

    def _units(self, stream: str) -> tuple[float, float]:
        """What an output is shifted and scaled by to become a prediction."""
        return self._statistics(stream)

    def decode_values(self, outputs: Tensor, reward_stream: str) -> Tensor:
        """Outputs times the standard deviation, plus the mean."""
        mean, std = self._units(reward_stream)
        return outputs * std + mean

    def encode_returns(self, returns: Tensor, reward_stream: str) -> Tensor:
        """Returns minus the mean, over the standard deviation."""
        mean, std = self._units(reward_stream)
        return (returns - mean) / std

    def after_estimation(self, rollout: Rollout) -> None:
        """Take a rollout's returns into the statistics, the first time they are estimated."""
        if self._updated == rollout.iteration:
            return
        self._updated = rollout.iteration
        for index, stream in enumerate(self._names):
            old = self._statistics(stream)
            self._merge(index, rollout.returns[stream], rollout.active)
            self._changed(index, stream, old[1], rollout)

    def _merge(self, index: int, returns: Tensor, active: Tensor) -> None:
        """Merge the moments of [T, B] returns of all ranks. Two collectives."""
        new = global_moments(returns, active, self.context.communicator)
        weight = count = self.count[index].item()
        if self.decay is not None and count > 0.0:
            # Such a count of old samples as gives the statistics of before the weight ``decay``.
            weight = new[0] * self.decay / (1.0 - self.decay)
        old = self.mean[index].item(), self.variance[index].item()
        _, mean, variance = merge_moments(weight, np.float64(old[0]), np.float64(old[1]), *new)
        for buffer, value in ((self.count, count + new[0]), (self.mean, mean), (self.variance, variance)):
            buffer[index] = float(value)

    def _changed(self, index: int, stream: str, old_std: float, rollout: Rollout) -> None:
        """Called when a stream's statistics have changed. Collectives allowed."""

    def metrics(self) -> dict[str, float]:
        """Mean and standard deviation of the environment's returns."""
        mean, std = self._statistics("extrinsic")
        return {"mean": mean, "std": std}


class PopArt(ValueNormalizer):
    r"""As ValueNormalizer, but what the critic predicts doesn't change when the statistics do.

    A prediction is :math:`\sigma (w h + b) + c`. When sigma changes, the value head is changed
    against it, :math:`w' = \sigma w / \sigma'` and :math:`b' = (\sigma b + c - c') / \sigma'`
    (proposition 1 of the paper). There c is the returns' mean; any other moves b alone, which changes
    neither predictions nor gradients. Here it is the mean of the predictions themselves, so that
    outputs stay near 0: far from the returns' mean, single precision would lose their differences.
    """

    source = "arXiv:1602.07714"
    conflicts = ("ValueNormalizer",)

    centre: Tensor

    def __init__(self, decay: float | None = 0.9) -> None:
        """Start with no statistics.

        Args:
            decay: Weight of the old statistics in an iteration, in [0, 1); None: by their count.
        """
        super().__init__(decay)

    def adapt(self, network: Model) -> Model:
        """Make statistics for each of the network's streams."""
        self._built_in = self.built_in(super().adapt(network))
        self.centre = self.statistic("centre", np.zeros(len(self._names)))
        return network

    def _units(self, stream: str) -> tuple[float, float]:
        """The centre and the standard deviation."""
        return self.centre[self._names.index(stream)].item(), self._statistics(stream)[1]

    def _changed(self, index: int, stream: str, old_std: float, rollout: Rollout) -> None:
        """Change the value head, and what it gave for this rollout, to the new units. Two collectives."""
        centre, std = self.centre[index].item(), self._statistics(stream)[1]
        outputs = rollout.value_outputs[stream]
        predictions = outputs.double() * old_std + centre
        new = float(global_moments(predictions[:-1], rollout.active, self.context.communicator)[1])
        head = self._built_in.value_head
        with torch.no_grad():
            head.weight[index] = head.weight[index].double() * (old_std / std)
            exact = (head.bias[index].double() * old_std + centre - new) / std
            head.bias[index] = exact
            # The part that the bias can't represent in its precision goes into c.
            new += (exact - head.bias[index].double()).item() * std
        self.centre[index] = new
        rollout.value_outputs[stream] = ((predictions - new) / std).to(outputs.dtype)
