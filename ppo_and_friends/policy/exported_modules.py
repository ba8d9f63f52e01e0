"""Encoding and transforms of observations, and the mapping of actions, as modules that ONNX can represent."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.agent_index import AgentIndex
from ppo_and_friends.friends.clipping import ObservationClip
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.history import ObservationHistory, PreviousAction
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.joint_mapping import JointMapping
from ppo_and_friends.vector.spaces import Leaf, encoded_space, kept_image, leaves


class RememberingTransform(nn.Module):
    """A transform of observations with memory.

    Its state [N, size] is passed from step to step by the user of the ONNX model; a row of zeros is the
    state at an episode's first step. ``forward`` takes observations [N, *obs] and the state.
    """

    size: int
    """Width of the state."""

    def next_state(self, transformed: Tensor, actions: Tensor) -> Tensor:
        """Return the state for the next step, [N, size].

        Args:
            transformed: The output of ``forward`` at this step.
            actions: [N, A], the actions that the policy chose at this step, in its own units.
        """
        raise NotImplementedError


@functools.singledispatch
def exported_transform(friend: Friend) -> nn.Module:
    """Return a friend's transform of observations, [N, *obs] to [N, *obs'], as an exportable module.

    To support a friend of your own, register a function for it with ``@exported_transform.register``.

    Raises:
        UsageError: The friend can't be exported.
    """
    raise UsageError(
        f"{friend.name} can't be exported, because its transform of observations has no exportable module.\n"
        "Train without it, or register a module with ppo_and_friends.policy.export.exported_transform."
    )


class _Normalize(nn.Module):
    """(o - mean) * scale, in double precision, as the friend computes it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(np.array(mean), dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(np.array(scale), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        return (observations.double() - self.mean) * self.scale


class _AppendAgent(nn.Module):
    """Appends one-hot which agent a row is: row b is agent b modulo their number."""

    one_hot: Tensor

    def __init__(self, one_hot: Any) -> None:
        super().__init__()
        self.register_buffer("one_hot", torch.as_tensor(np.array(one_hot)))

    def forward(self, observations: Tensor) -> Tensor:
        agents = torch.arange(observations.shape[0]) % len(self.one_hot)
        return torch.cat((observations, self.one_hot[agents].to(observations.dtype)), dim=1)


class _Clip(nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, observations: Tensor) -> Tensor:
        return observations.clamp(-self.limit, self.limit)


class _History(RememberingTransform):
    """Stacks observations. The state is the stack, and a flag that is zero at an episode's first step."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length, self.width = length, width
        self.size = length * width + 1

    def forward(self, observations: Tensor, state: Tensor) -> Tensor:
        stacked = torch.cat((state[:, self.width : -1].to(observations.dtype), observations), dim=1)
        return torch.where(state[:, -1:] > 0, stacked, observations.repeat(1, self.length))

    def next_state(self, transformed: Tensor, actions: Tensor) -> Tensor:
        return torch.cat((transformed, torch.ones_like(transformed[:, :1])), dim=1)


class _PreviousAction(RememberingTransform):
    """Appends the previous action. The state is that action, encoded."""

    def __init__(self, features: nn.Module, size: int) -> None:
        super().__init__()
        self.features, self.size = features, size

    def forward(self, observations: Tensor, state: Tensor) -> Tensor:
        return torch.cat((observations, state.to(observations.dtype)), dim=1)

    def next_state(self, transformed: Tensor, actions: Tensor) -> Tensor:
        features: Tensor = self.features(actions)
        return features


@exported_transform.register
def _(friend: AgentIndex) -> nn.Module:
    return _AppendAgent(friend.one_hot)


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
    """`vector.codec.Encoder` as a module, which encodes the parts of an observation as one array [N, *shape].

    A category outside its space is encoded as zeros, because a model can't raise an error.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        """Create an encoder for observations of ``space``."""
        super().__init__()
        encoded = encoded_space(space)
        self.parts: Sequence[Leaf] = leaves(space)
        self.image, self.shape = kept_image(space) is not None, encoded.shape
        self.dtype = torch_dtype(encoded)

    def names(self) -> list[str]:
        """Return the names of the inputs: ``observations``, or ``observations.<key>`` for each part."""
        return [".".join(("observations", *map(str, part.path))) for part in self.parts]

    def examples(self, rows: int) -> list[Tensor]:
        """Return example inputs of the right shapes and dtypes, for a batch of ``rows``."""
        return [_example(part.space, rows) for part in self.parts]

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Encode the parts, [N, *part shape] each, in the order of ``names``."""
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
    """Return the torch dtype of a space's elements."""
    return torch.from_numpy(np.zeros(1, space.dtype)).dtype


def _example(space: spaces.Space[Any], rows: int) -> Tensor:
    example = torch.from_numpy(np.zeros((rows, *(space.shape or ())), space.dtype))
    # ONNX runtimes can't compute with these dtypes.
    return example.long() if example.dtype in (torch.uint16, torch.uint32, torch.uint64) else example


class ToEnvironment(nn.Module):
    """`ActionMapping.to_environment` as a module, from the policy's units to the environment's."""

    centre: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor
    start: Tensor

    def __init__(self, mapping: ActionMapping) -> None:
        """Create the module from the mapping."""
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
        """Map actions [N, A] in the policy's units to [N, *action shape] in the environment's units."""
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


class JointToEnvironment(nn.Module):
    """The parts of `JointMapping.to_environment`, in the order of the space."""

    def __init__(self, mappings: Sequence[ActionMapping]) -> None:
        """Create the modules from the parts' mappings."""
        super().__init__()
        self.parts = nn.ModuleList(ToEnvironment(mapping) for mapping in mappings)
        self.sizes = [mapping.distribution.action_size for mapping in mappings]

    def forward(self, actions: Tensor) -> tuple[Tensor, ...]:
        """Map actions [N, A] in the policy's units to [N, *part shape] for each part."""
        return tuple(part(own) for part, own in zip(self.parts, actions.split(self.sizes, 1), strict=True))


def environment_actions(mapping: ActionMapping) -> JointToEnvironment:
    """The module for a mapping of any space; a space that isn't nested has one part."""
    return JointToEnvironment(mapping.parts if isinstance(mapping, JointMapping) else [mapping])
