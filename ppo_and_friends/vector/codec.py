"""Encoding of observations: batches from any supported space become a single array.

Vectors have the layout of ``gymnasium.spaces.flatten``: Discrete and MultiDiscrete are one-hot
encoded, Dict and Tuple are concatenated in their own order. Images remain uint8 images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.spaces import Leaf, encoded_space, kept_image, leaves

Array = NDArray[Any]


class BadObservationError(ValueError):
    """An environment's observation doesn't fit its space.

    Attributes:
        row: Index of the environment in the batch.
        key: Name of the component, such as ``observation["position"][3]``.
        problem: What is wrong with it.
    """

    def __init__(self, row: int, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.row, self.key, self.problem = row, key, problem


class Encoder:
    """Encodes batches of observations from one space.

    Attributes:
        declared: Space of one observation, as the environment declares it.
        space: Space of one encoded observation.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        """Create an encoder.

        Args:
            space: Observation space of one environment, as it declares it.

        Raises:
            UsageError: The space isn't supported.
        """
        self.declared = space
        self.space = encoded_space(space)
        self._leaves = leaves(space)
        self._dtype = self.space.dtype
        self._image = kept_image(space) is not None
        self._plain = isinstance(space, spaces.Box) and not self._image
        self._writers = [] if self._plain or self._image else [_writer(leaf) for leaf in self._leaves]

    def __call__(self, batch: Any) -> Array:
        """Encode a batch in the form that Gymnasium's vector environments return.

        Args:
            batch: An array ``[B, ...]``, or a (nested) dict or tuple of such arrays.

        Returns:
            ``[B, *space.shape]``; shares memory with the batch if no conversion is needed.

        Raises:
            BadObservationError: A category lies outside its space.
        """
        if self._plain:
            array: Array = np.asarray(batch, dtype=self._dtype)
            return array if array.ndim == 2 else array.reshape(array.shape[0], -1)
        if self._image:
            return self._encode_images(np.asarray(batch))
        first = _pick(batch, self._leaves[0].path)
        out = np.empty((len(first), *self.space.shape), dtype=self._dtype)
        for leaf, write in zip(self._leaves, self._writers, strict=True):
            write(np.asarray(_pick(batch, leaf.path)), out[:, leaf.start : leaf.start + leaf.size])
        return out

    def _encode_images(self, batch: Array) -> Array:
        if batch.ndim == 5 and batch.shape[-1] in (1, 3, 4):
            batch = batch.transpose(0, 1, 4, 2, 3)
        return np.ascontiguousarray(batch).reshape(batch.shape[0], *self.space.shape)

    def component(self, index: tuple[int, ...]) -> str:
        """Return the name of the component at ``index`` of an encoded observation, for error messages."""
        if self._image or len(index) != 1:
            return f"observation{list(index)}"
        for leaf in self._leaves:
            if leaf.start <= index[0] < leaf.start + leaf.size:
                at = index[0] - leaf.start
                if isinstance(leaf.space, spaces.Box | spaces.MultiBinary):
                    shape = leaf.space.shape
                    return leaf.key + "".join(f"[{i}]" for i in np.unravel_index(at, shape))
                return leaf.key
        return f"observation[{index[0]}]"


def encoders(space: spaces.Space[Any], critic_keys: Sequence[str]) -> dict[str, Encoder]:
    """Encoders of an environment's observations, by name.

    Args:
        space: Of one environment, as it declares it.
        critic_keys: Keys of a Dict space that the critic alone sees.

    Returns:
        ``policy``; with ``critic_keys`` also ``critic``, of all keys.
    """
    found = {"policy": Encoder(policy_space(space, critic_keys))}
    return found | {"critic": Encoder(space)} if critic_keys else found


def other_spaces(encoders: Mapping[str, Encoder]) -> Mapping[str, spaces.Box]:
    """Encoded spaces of all observations but the actor's, by name."""
    return {name: encoder.space for name, encoder in encoders.items() if name != "policy"}


def policy_space(space: spaces.Space[Any], critic_keys: Sequence[str]) -> spaces.Space[Any]:
    """A space without the keys that the critic alone sees.

    Raises:
        UsageError: It has no such keys, or no others.
    """
    if not critic_keys:
        return space
    setting = f"environment.critic_observations={','.join(critic_keys)}"
    if not isinstance(space, spaces.Dict):
        raise UsageError(f"{setting}: the observation space {space} is no Dict, so it has no keys.")
    unknown = [key for key in critic_keys if key not in space.spaces]
    if unknown:
        keys = ", ".join(space.spaces)
        raise UsageError(f"{setting}: there is no {unknown[0]!r} in the observation; its keys are {keys}.")
    kept = {key: part for key, part in space.spaces.items() if key not in critic_keys}
    if not kept:
        raise UsageError(f"{setting}: that is every key of the observation, and leaves the actor none.")
    return spaces.Dict(kept)


def _pick(batch: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        batch = batch[step]
    return batch


def _writer(leaf: Leaf) -> Callable[[Array, Array], None]:
    """Return a function that writes a batch ``[B, ...]`` of a part into its columns ``[B, size]``."""
    space = leaf.space
    if isinstance(space, spaces.Discrete):
        nvec, first = np.array([space.n]), np.array([space.start])
    elif isinstance(space, spaces.MultiDiscrete):
        nvec, first = space.nvec.reshape(-1), space.start.reshape(-1)
    else:
        return lambda batch, out: np.copyto(out, batch.reshape(out.shape), casting="unsafe")
    columns = np.concatenate(([0], np.cumsum(nvec)[:-1]))

    def one_hot(batch: Array, out: Array) -> None:
        category = batch.reshape(len(batch), -1) - first
        bad = (category < 0) | (category >= nvec)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            value = int(category[row, column] + first[column])
            raise BadObservationError(row, leaf.key, f"{value} is outside {space}")
        out[:] = 0
        np.put_along_axis(out, category + columns, 1, axis=1)

    return one_hot
