"""A friend that gives proprioceptive and exteroceptive observations separate encoders."""

from __future__ import annotations

import re

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.common.images import is_image
from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.networks.layers import NatureCNN, mlp
from ppo_and_friends.networks.model import Model
from ppo_and_friends.networks.split_encoder import SplitEncoder
from ppo_and_friends.vector.spaces import EncodedBox, Leaf

RANGE = re.compile(r"(\d+)-(\d+)")


class ImageReader(nn.Module):
    """The Nature CNN for an image that is a part of a flat vector."""

    def __init__(self, shape: tuple[int, ...], scale: float, generator: torch.Generator) -> None:
        """Read images of ``shape``, whose numbers are multiplied by ``scale`` first."""
        super().__init__()
        self.shape, self.scale = shape, scale
        self.network = NatureCNN(shape, from_bytes=False, generator=generator)

    def forward(self, flat: Tensor) -> Tensor:
        """[N, n] to [N, 512]."""
        features: Tensor = self.network(flat.unflatten(-1, self.shape) * self.scale)
        return features


class SplitObservations(Friend):
    """Encode exteroceptive (lidar, camera) and proprioceptive observations by separate first layers.

    With one part empty the network stays as it is. It comes after the friends that change the
    length of the observation.
    """

    source = "arXiv:1707.02286, section 4.1"

    def __init__(
        self,
        exteroceptive: int | str | tuple[int | str, ...] = (),
        exteroceptive_widths: tuple[int, ...] = (64,),
        proprioceptive_widths: tuple[int, ...] = (64,),
    ) -> None:
        """Choose the parts; the proprioceptive one is what isn't exteroceptive.

        Args:
            exteroceptive: Components: an index, a range such as "14-23" (both included), a key of a
                Dict observation, or a list of these. A key alone, of an image, is read by a CNN.
            exteroceptive_widths: Hidden layers for this part, at least one.
            proprioceptive_widths: Hidden layers for the other part, at least one.
        """
        super().__init__()
        if not exteroceptive_widths or not proprioceptive_widths:
            raise UsageError("SplitObservations needs at least one width for each part.")
        self.chosen = exteroceptive if isinstance(exteroceptive, tuple) else (exteroceptive,)
        self.widths = (exteroceptive_widths, proprioceptive_widths)

    def setup(self, context: FriendContext) -> None:
        """Find the components of each part.

        Raises:
            UsageError: Observations are images, or there is no such component or key.
        """
        super().setup(context)
        shape = context.observation_space.shape
        if len(shape) != 1:
            raise UsageError(f"SplitObservations works on vectors, not on observations of shape {shape}.")
        columns = {column for item in self.chosen for column in self._columns(item, shape[0])}
        self._exteroceptive = sorted(columns)
        self._proprioceptive = [column for column in range(shape[0]) if column not in columns]

    def reads_images(self, space: spaces.Box) -> bool:
        """Of an image that is chosen by its key it makes features by convolutions."""
        return self._image(space) is not None

    def _columns(self, item: int | str, size: int) -> list[int]:
        span = RANGE.fullmatch(item) if isinstance(item, str) else None
        if isinstance(item, str) and span is None:
            found = _leaves(self.context.environment_space, item)
            if not found:
                space = self.context.environment_space
                parts = space.parts if isinstance(space, EncodedBox) else ()
                keys = [str(leaf.path[0]) for leaf in parts if leaf.path]
                near = ", ".join(nearest(item, keys))
                hint = f"Did you mean {near}?" if near else "The observation has no keys: give indices."
                raise UsageError(f"SplitObservations: there is no {item!r} in the observation. {hint}")
            if "ObservationHistory" in [spec.name for spec in self.context.experiment.friends]:
                raise UsageError(
                    f"SplitObservations can't find {item!r} in stacked observations: give indices, or use "
                    "--without ObservationHistory."
                )
            return [column for leaf in found for column in range(leaf.start, leaf.start + leaf.size)]
        first, last = (int(span[1]), int(span[2])) if span else (int(item), int(item))
        if not 0 <= first <= last < size:
            raise UsageError(
                f"SplitObservations: {item} isn't within the observation's components, 0 to {size - 1}."
            )
        return list(range(first, last + 1))

    def adapt(self, network: Model) -> Model:
        """Put split encoders in front, and fit the layers behind them."""
        if not self._exteroceptive or not self._proprioceptive:
            return network
        network = self.built_in(network)
        size = len(self._exteroceptive) + len(self._proprioceptive)
        if int(network.actor_encoder.features) != size:
            raise UsageError(
                "SplitObservations must come after the friends that change the observation's length."
            )
        generator = self.weight_generator()
        network.actor_encoder = self._encoder(network.actor_encoder, generator)  # type: ignore[assignment]
        # What the critic alone sees has other columns, and stays together.
        if self.context.critic_space is None:
            network.critic_encoder = (
                network.actor_encoder if network.shared else self._encoder(network.critic_encoder, generator)  # type: ignore[assignment]
            )
        if not len(network.actor) and not isinstance(network.policy_head, PolicyHead):
            raise UsageError(
                "SplitObservations must come before StateDependentExploration where the actor has no "
                "hidden layers."
            )
        network.fit_layers(generator)
        return network.to(self.context.device, self.context.dtype)

    def _encoder(self, base: nn.Module, generator: torch.Generator) -> SplitEncoder:
        readers: list[tuple[list[int], nn.Module]] = []
        features = 0
        for columns, widths in zip((self._exteroceptive, self._proprioceptive), self.widths, strict=True):
            image = self._image(self.context.environment_space) if columns is self._exteroceptive else None
            reader: nn.Module
            if image is not None:
                names = [spec.name for spec in self.context.experiment.friends]
                bytes_ = image.dtype == np.uint8 and "ObservationNormalizer" not in names
                reader = ImageReader(image.shape, 1.0 / 255.0 if bytes_ else 1.0, generator)
                features += reader.network.features
            else:
                reader = mlp(len(columns), widths, self.context.experiment.network.activation, generator)
                features += widths[-1]
            readers.append((columns, reader))
        return SplitEncoder(base, readers, features)

    def _image(self, space: spaces.Box | None) -> spaces.Box | None:
        """The exteroceptive part's space in encoded observations, if it is one key and an image."""
        if len(self.chosen) != 1 or not isinstance(self.chosen[0], str):
            return None
        found = _leaves(space, self.chosen[0])
        if len(found) != 1 or not isinstance(found[0].space, spaces.Box) or not is_image(found[0].space):
            return None
        return found[0].space


def _leaves(space: spaces.Box | None, key: str) -> list[Leaf]:
    """The parts of encoded observations that are under a key of the environment's."""
    parts = space.parts if isinstance(space, EncodedBox) else ()
    return [leaf for leaf in parts if leaf.path[:1] == (key,)]
