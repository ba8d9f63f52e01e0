"""What encodes, changes and answers observations, as modules that ONNX can hold."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.clipping import ObservationClip
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.history import ObservationHistory, PreviousAction
from ppo_and_friends.friends.normalizers import ObservationNormalizer
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.vector.spaces import Leaf, encoded_space, is_image, leaves


class RememberingTransform(nn.Module):
    """A transform that remembers, in a state [N, size] that the user of the file hands on.

    Rows of zeros are the state where an episode begins. ``forward`` takes [N, *obs] and the state.
    """

    size: int

    def next_state(self, changed: Tensor, actions: Tensor) -> Tensor:
        """The state of the next step.

        Args:
            changed: What ``forward`` gave.
            actions: [N, A], what the policy chose then, as it stores actions.
        """
        raise NotImplementedError


@functools.singledispatch
def exported_transform(friend: Friend) -> nn.Module:
    """What a friend does to observations, [N, *obs] to [N, *obs'], as a module that can be exported.

    Register a function for a friend of your own: ``@exported_transform.register``.

    Raises:
        UsageError: The friend can't be exported.
    """
    raise UsageError(
        f"{friend.name} can't be exported: what it does to observations isn't known as a module. Train "
        "without it, or register it with export.exported_transform."
    )


class _Normalize(nn.Module):
    """(o - mean) * scale, in double precision as the friend does it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(np.array(mean), dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(np.array(scale), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        return (observations.double() - self.mean) * self.scale


class _Clip(nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, observations: Tensor) -> Tensor:
        return observations.clamp(-self.limit, self.limit)


class _History(RememberingTransform):
    """The state is the stack, and whether there is one yet."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length, self.width = length, width
        self.size = length * width + 1

    def forward(self, observations: Tensor, state: Tensor) -> Tensor:
        stacked = torch.cat((state[:, self.width : -1].to(observations.dtype), observations), dim=1)
        return torch.where(state[:, -1:] > 0, stacked, observations.repeat(1, self.length))

    def next_state(self, changed: Tensor, actions: Tensor) -> Tensor:
        return torch.cat((changed, torch.ones_like(changed[:, :1])), dim=1)


class _PreviousAction(RememberingTransform):
    """The state is the encoded action."""

    def __init__(self, features: nn.Module, size: int) -> None:
        super().__init__()
        self.features, self.size = features, size

    def forward(self, observations: Tensor, state: Tensor) -> Tensor:
        return torch.cat((observations, state.to(observations.dtype)), dim=1)

    def next_state(self, changed: Tensor, actions: Tensor) -> Tensor:
        features: Tensor = self.features(actions)
        return features


@exported_transform.register
def _(friend: ObservationNormalizer) -> nn.Module:
    return _Normalize(*friend.statistics())


@exported_transform.register
def _(friend: ObservationClip) -> nn.Module:
    return _Clip(friend.limit)


@exported_transform.register
def _(friend: ObservationHistory) -> nn.Module:
    return _History(friend.length, friend.context.observation_space.shape[0])


@exported_transform.register
def _(friend: PreviousAction) -> nn.Module:
    return _PreviousAction(friend.features, friend.features.size)


class Encode(nn.Module):
    """`vector.codec.Encoder` as a module: parts of an observation to one array [N, *shape].

    A category outside its space becomes zeros, since a model can't refuse it.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        """For observations of this space."""
        super().__init__()
        encoded = encoded_space(space)
        self.parts: Sequence[Leaf] = leaves(space)
        self.image, self.shape = is_image(space), encoded.shape
        self.dtype = torch_dtype(encoded)

    def names(self) -> list[str]:
        """Of the inputs: ``observations``, or for each part ``observations.<key>``."""
        return [".".join(("observations", *map(str, part.path))) for part in self.parts]

    def examples(self, rows: int) -> list[Tensor]:
        """Inputs of the right shapes and types."""
        return [_example(part.space, rows) for part in self.parts]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """[N, *part's shape] each, in the order of ``names``."""
        if self.image:
            (images,) = parts
            if images.ndim == 5 and images.shape[-1] in (1, 3, 4):
                images = images.permute(0, 1, 4, 2, 3)
            return images.reshape(images.shape[0], *self.shape)
        columns = [self._columns(leaf.space, part) for leaf, part in zip(self.parts, parts, strict=True)]
        return torch.cat(columns, dim=1) if len(columns) > 1 else columns[0]

    def _columns(self, space: spaces.Space[Any], part: Tensor) -> Tensor:
        flat = part.reshape(part.shape[0], -1)
        if isinstance(space, spaces.Discrete):
            sizes, starts = [int(space.n)], [int(space.start)]
        elif isinstance(space, spaces.MultiDiscrete):
            sizes, starts = space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist()
        else:
            return flat.to(self.dtype)
        choices = [
            flat[:, i : i + 1] == torch.arange(start, start + size, dtype=flat.dtype)
            for i, (size, start) in enumerate(zip(sizes, starts, strict=True))
        ]
        return torch.cat(choices, dim=1).to(self.dtype)


def torch_dtype(space: spaces.Space[Any]) -> torch.dtype:
    """Of arrays of a space."""
    return torch.from_numpy(np.zeros(1, space.dtype)).dtype


def _example(space: spaces.Space[Any], rows: int) -> Tensor:
    example = torch.from_numpy(np.zeros((rows, *(space.shape or ())), space.dtype))
    # Types that ONNX runtimes don't compute with.
    return example.long() if example.dtype in (torch.uint16, torch.uint32, torch.uint64) else example


class ToEnvironment(nn.Module):
    """`ActionMapping.to_environment` as a module."""

    centre: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor
    start: Tensor

    def __init__(self, mapping: ActionMapping) -> None:
        """The same mapping."""
        super().__init__()
        self.mapping = mapping
        space = mapping.space
        self.shape = space.shape or ()
        self.dtype = torch_dtype(space)
        if isinstance(space, spaces.Box):
            numbers = {"centre": mapping.centre, "half_range": mapping.half_range}
            for name, value in (numbers | {"low": space.low, "high": space.high}).items():
                self.register_buffer(name, torch.as_tensor(np.array(value).reshape(-1), dtype=torch.float64))
        else:
            self.register_buffer("start", torch.as_tensor(np.array(mapping.start), dtype=torch.int64))

    def forward(self, actions: Tensor) -> Tensor:
        """Stored actions [N, A] to [N, *action shape]."""
        space = self.mapping.space
        if isinstance(space, spaces.Box):
            if self.mapping.squash:
                actions = actions.tanh()
            scaled = actions.double() * self.half_range + self.centre
            scaled = torch.minimum(torch.maximum(scaled, self.low), self.high)
            if space.dtype.kind in "iub":
                scaled = scaled.round()
            result = scaled.to(self.dtype)
        else:
            result = (actions + self.start).to(self.dtype)
        return result.unflatten(-1, self.shape) if self.shape else result[:, 0]
