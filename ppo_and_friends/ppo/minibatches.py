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

from ppo_and_friends.common.images import image_axes
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.model import ACTIONS, Model, legal
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]


@dataclass
class Minibatch:
    """Chunks of consecutive steps of a rollout, drawn from every environment alike, as tensors on the device.

    N chunks of L steps are L * N samples, step by step: sample l * N + n is step l of chunk n. Without
    memory L is 1.
    """

    samples: Tensor
    """[L * N] int64, places in the rollout: step t of row b is t * B + b, its next observation B further."""

    observations: dict[str, Tensor]
    """By name, [L * N, *obs] each."""

    episode_starts: Tensor
    """[L * N] bool: the observation is the first one of an episode."""

    states: Tensor
    """[N, S], of the model's memory before each chunk."""

    actions: Tensor
    """[L * N, *act]."""

    old_log_probs: Tensor
    """[L * N]."""

    old_policy_parameters: Tensor
    """[L * N, P]."""

    advantages: Tensor
    """[L * N]."""

    value_targets: Tensor
    """[L * N, S], a column for each stream."""

    old_value_outputs: Tensor
    """[L * N, S]."""

    active: Tensor
    """[L * N] float: 1 for experience, 0 for an automatic reset."""

    count: float
    """Active samples of this minibatch over all ranks: divide sums by it."""

    index: int = 0
    """The minibatch's place in its epoch."""

    policy_parameters: Tensor = field(default_factory=lambda: torch.empty(0))
    """[L * N, P], the current network's; set before friends' losses are asked for."""

    value_outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    """[L * N, S], the current network's; set before friends' losses are asked for."""

    def mean(self, values: Tensor) -> Tensor:
        """This rank's share of the mean of [L * N] values over the active samples of all ranks."""
        return torch.dot(values, self.active) / self.count

    def evaluate(self, network: Model) -> None:
        """Run the network over the chunks: sets ``policy_parameters`` and ``value_outputs``."""
        shape = (-1, len(self.states))
        observations = {name: tensor.unflatten(0, shape) for name, tensor in self.observations.items()}
        if network.groups_agents:
            observations[ACTIONS] = self.actions.unflatten(0, shape)
        starts = self.episode_starts.unflatten(0, shape)
        parameters, outputs = network.sequence(observations, self.states, starts)
        self.policy_parameters = legal(network.distribution, parameters.flatten(0, 1), self.observations)
        self.value_outputs = outputs.flatten(0, 1)


MAX_SEQUENCE = 16
"""Longest chunk with memory, if ``ppo.sequence_length`` is unset."""

LEAST_SEQUENCE = 4
"""Shortest one that is chosen then: over fewer steps hardly anything is learnt."""


def chunk_length(asked: int | None, steps: int, *, memory: bool) -> int:
    """L, the steps of a chunk.

    Args:
        asked: The setting ``ppo.sequence_length``.
        steps: T, the rollout's length.
        memory: Whether the model has memory.

    Raises:
        UsageError: The requested length doesn't divide the rollout, or none that is long enough does.
    """
    if asked is None:
        if not memory:
            return 1
        found = max(n for n in range(1, MAX_SEQUENCE + 1) if steps % n == 0)
        if found < min(LEAST_SEQUENCE, steps):
            raise UsageError(
                f"Memory learns from chunks of up to {MAX_SEQUENCE} steps, but of the {steps} steps of each "
                f"environment in a rollout, only chunks of {found} can be made: change "
                "ppo.rollout_timesteps or environment.num_envs, or set ppo.sequence_length."
            )
        return found
    if steps % asked:
        divisors = [n for n in range(1, steps + 1) if steps % n == 0]
        near = sorted(sorted(divisors, key=lambda n: abs(n - asked))[:3])
        raise UsageError(
            f"ppo.sequence_length={asked} doesn't divide the {steps} steps of each environment in a rollout: "
            f"set it to {', '.join(map(str, near))}, or change ppo.rollout_timesteps or environment.num_envs."
        )
    return asked


def slice_bounds(chunks: int, minibatches: int) -> list[tuple[int, int]]:
    """First and last+1 of each of ``minibatches`` slices of ``chunks`` shuffled chunks.

    Sizes differ by one at most and depend on nothing but the arguments, so that every rank has the
    same number of minibatches, whatever its share of the environments.
    """
    edges = [round(k * chunks / minibatches) for k in range(minibatches + 1)]
    return list(pairwise(edges))


def active_counts(active: Tensor, orders: list[Array], bounds: list[tuple[int, int]]) -> Array:
    """This rank's active samples in every minibatch of every epoch.

    Args:
        active: [T, B] bool.
        orders: One [C, B] shuffle of the C chunks an epoch.
        bounds: The minibatches' slices of the shuffled chunks.

    Returns:
        [epochs, minibatches] float64.
    """
    edges = [first for first, _ in bounds]
    chunks, envs = orders[0].shape
    in_chunk = active.cpu().numpy().reshape(chunks, -1, envs).sum(axis=1)
    per_step = np.stack([np.take_along_axis(in_chunk, order, axis=0).sum(axis=1) for order in orders])
    return np.add.reduceat(per_step.astype(np.float64), edges, axis=1)


class MinibatchSource:
    """Draws an update's minibatches from a rollout, with one gather an epoch."""

    def __init__(self, rollout: Rollout, group_size: int = 1) -> None:
        """Take a rollout, and `Model.group_size`: rows whose orders must be equal."""
        self.rollout, self._group_size = rollout, group_size
        self.streams = list(rollout.value_outputs)
        outputs = [rollout.value_outputs[name][:-1] for name in self.streams]
        self._observations = {
            name: _channels_last(tensor[:-1].flatten(0, 1)) for name, tensor in rollout.observations.items()
        }
        self._states = rollout.states[:-1].flatten(0, 1)
        self._fixed = {
            "episode_starts": rollout.episode_starts[:-1].flatten(),
            "actions": rollout.actions.flatten(0, 1),
            "old_log_probs": rollout.log_probs.flatten(),
            "old_policy_parameters": rollout.policy_parameters.flatten(0, 1),
            "active": rollout.active.flatten().to(rollout.log_probs.dtype),
            "old_value_outputs": torch.stack(outputs, dim=-1).flatten(0, 1),
        }

    def epoch(self, order: Array, bounds: list[tuple[int, int]], counts: Array) -> Iterator[Minibatch]:
        """Yield an epoch's minibatches.

        Args:
            order: [C, B] shuffle of each environment's chunks.
            bounds: The minibatches' slices of the shuffled chunks.
            counts: [minibatches], active samples over all ranks.
        """
        rollout = self.rollout
        envs, length, device = rollout.num_envs, rollout.sequence_length, rollout.actions.device
        chunks = torch.from_numpy((order * envs + np.arange(envs)).reshape(-1)).to(device)
        samples = _samples_of(chunks, envs, length, bounds)
        edges = [0, *(last * envs for _, last in bounds)]  # of the minibatches, in chunks
        if rollout.played is not None and length == 1 and self._group_size == 1:
            # Where agents take turns or opponents act, most samples may be none of experience.
            keep = self._fixed["active"].index_select(0, samples) > 0.0
            keep[edges[:-1]] = (
                True  # so that no minibatch is empty; those that aren't active count for nothing
            )
            behind = torch.cat((keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)))
            edges = behind[edges].tolist()
            chunks = samples = samples[keep]
        # Estimation can be repeated between epochs, so its results are read anew in each.
        targets = [rollout.value_targets[name] for name in self.streams]
        tensors = {
            **self._fixed,
            "advantages": rollout.advantages.flatten(),
            "value_targets": torch.stack(targets, dim=-1).flatten(0, 1),
        }
        sizes = [last - first for first, last in pairwise(edges)]  # in chunks
        rows = [size * length for size in sizes]
        # Each divided in a single call, since a slice takes twice as long as a part of such a division.
        parts = {name: tensor.index_select(0, samples).split(rows) for name, tensor in tensors.items()}
        parts["samples"] = samples.split(rows)
        parts["states"] = self._states.index_select(0, chunks).split(sizes)
        seen = {name: _select(tensor, samples).split(rows) for name, tensor in self._observations.items()}
        for index, count in enumerate(counts):
            yield Minibatch(
                observations={name: part[index] for name, part in seen.items()},
                count=max(float(count), 1.0),
                index=index,
                **{name: part[index] for name, part in parts.items()},
            )


def _samples_of(chunks: Tensor, envs: int, length: int, bounds: list[tuple[int, int]]) -> Tensor:
    """Samples of the rollout in the order of an epoch's minibatches, each step by step.

    Args:
        chunks: [C * B], shuffled: chunk c of environment b is c * B + b.
        envs: B.
        length: L.
        bounds: The minibatches' slices of the shuffled chunks.
    """
    if length == 1:
        return chunks
    firsts = chunks // envs * (length * envs) + chunks % envs
    steps = torch.arange(length, device=chunks.device).unsqueeze(-1) * envs
    return torch.cat([(firsts[a * envs : b * envs] + steps).flatten() for a, b in bounds])


def _channels_last(observations: Tensor) -> Tensor:
    """Images [N, C, H, W] laid out for convolutions, once an update instead of once a minibatch."""
    axes = image_axes(observations.shape[1:])
    image = axes is not None and axes.channel_axis == 0
    return observations.contiguous(memory_format=torch.channels_last) if image else observations


def _select(tensor: Tensor, samples: Tensor) -> Tensor:
    """Some samples of a tensor [T * B, ...], laid out in memory as it is."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).index_select(0, samples).permute(0, 3, 1, 2)
    return tensor.index_select(0, samples)
