"""The division of a rollout into minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]


@dataclass
class Minibatch:
    """N rows of a rollout, drawn from every environment alike, as tensors on the device."""

    rows: Tensor
    """[N] int64: row t, b of the rollout is t * B + b. Row + B is its next observation's."""

    observations: Tensor
    """[N, *obs]."""

    actions: Tensor
    """[N, *act]."""

    old_log_probs: Tensor
    """[N]."""

    old_policy_parameters: Tensor
    """[N, P]."""

    advantages: Tensor
    """[N]."""

    value_targets: Tensor
    """[N, S], a column for each stream."""

    old_value_outputs: Tensor
    """[N, S]."""

    valid: Tensor
    """[N] float: 1 for experience, 0 for a reset row."""

    count: float
    """Valid rows of this minibatch over all ranks: divide sums by it."""

    index: int = 0
    """The minibatch's place in its epoch."""

    policy_parameters: Tensor = field(default_factory=lambda: torch.empty(0))
    """[N, P], the current network's; set before friends' losses are asked for."""

    value_outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    """[N, S], the current network's; set before friends' losses are asked for."""

    def mean(self, samples: Tensor) -> Tensor:
        """This rank's share of the mean of [N] samples over the valid rows of all ranks."""
        return torch.dot(samples, self.valid) / self.count


def slice_bounds(steps: int, minibatches: int) -> list[tuple[int, int]]:
    """First and last+1 of each of ``minibatches`` slices of ``steps`` shuffled steps.

    Sizes differ by one at most and depend on nothing but the arguments, so that every rank has the
    same number of minibatches, whatever its share of the environments.
    """
    edges = [round(k * steps / minibatches) for k in range(minibatches + 1)]
    return list(pairwise(edges))


def valid_counts(valid: Array, orders: list[Array], bounds: list[tuple[int, int]]) -> Array:
    """This rank's valid rows in every minibatch of every epoch.

    Args:
        valid: [T, B] bool.
        orders: One [T, B] shuffle an epoch.
        bounds: The minibatches' slices of the shuffled steps.

    Returns:
        [epochs, minibatches] float64.
    """
    edges = [first for first, _ in bounds]
    per_step = np.stack([np.take_along_axis(valid, order, axis=0).sum(axis=1) for order in orders])
    return np.add.reduceat(per_step.astype(np.float64), edges, axis=1)


class MinibatchSource:
    """Draws an update's minibatches from a rollout, with one gather an epoch."""

    def __init__(self, rollout: Rollout, device: torch.device) -> None:
        self.rollout = rollout
        self.device = device
        self.names = list(rollout.value_outputs)
        rows = rollout.steps * rollout.num_envs
        self._fixed = {
            "observations": _channels_last(self._tensor(rollout.observations[:-1])),
            "actions": self._tensor(rollout.actions),
            "old_log_probs": self._tensor(rollout.log_probs),
            "old_policy_parameters": self._tensor(rollout.policy_parameters),
            "valid": self._tensor(rollout.valid.astype(rollout.log_probs.dtype)),
            "old_value_outputs": self._tensor(
                np.stack([rollout.value_outputs[name][:-1] for name in self.names], axis=-1)
            ),
        }
        assert all(tensor.shape[0] == rows for tensor in self._fixed.values())

    def epoch(self, order: Array, bounds: list[tuple[int, int]], counts: Array) -> Iterator[Minibatch]:
        """Yield an epoch's minibatches.

        Args:
            order: [T, B] shuffle of each environment's steps.
            bounds: The minibatches' slices of the shuffled steps.
            counts: [minibatches], valid rows over all ranks.
        """
        rollout = self.rollout
        envs = rollout.num_envs
        rows = torch.from_numpy((order * envs + np.arange(envs)).reshape(-1)).to(self.device)
        # Estimation can be repeated between epochs, so its results are taken afresh in each.
        targets = np.stack([rollout.value_targets[name] for name in self.names], axis=-1)
        tensors = {
            **self._fixed,
            "advantages": self._tensor(rollout.advantages),
            "value_targets": self._tensor(targets),
        }
        shuffled = {name: _rows(tensor, rows) for name, tensor in tensors.items()}
        for index, (first, last) in enumerate(bounds):
            span = slice(first * envs, last * envs)
            yield Minibatch(
                rows=rows[span],
                count=max(float(counts[index]), 1.0),
                index=index,
                **{name: tensor[span] for name, tensor in shuffled.items()},
            )

    def _tensor(self, array: Array) -> Tensor:
        """[T, B, ...] array as a [T * B, ...] tensor on the device."""
        flat = np.ascontiguousarray(array).reshape(-1, *array.shape[2:])
        return torch.from_numpy(flat).to(self.device, non_blocking=True)


def _channels_last(observations: Tensor) -> Tensor:
    """Images [N, C, H, W] laid out for convolutions, once an update instead of once a minibatch."""
    image = observations.dim() == 4 and observations.shape[1] < observations.shape[3]
    return observations.contiguous(memory_format=torch.channels_last) if image else observations


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a tensor, laid out in memory as it is."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return tensor.index_select(0, rows)
