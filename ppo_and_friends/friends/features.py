"""Small networks that friends make features of observations with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from ppo_and_friends.common.images import is_image
from ppo_and_friends.networks.layers import NatureCNN, VectorEncoder, linear, mlp


def feature_network(
    space: spaces.Box,
    hidden: Sequence[int],
    features: int,
    generator: torch.Generator,
    *,
    from_bytes: bool | None = None,
    gain: float = 1.0,
) -> nn.Sequential:
    """Observations [N, *shape] to [N, features]: the Nature CNN for images, hidden layers, a last one.

    Args:
        space: Of the observations.
        hidden: Widths of the hidden layers, with leaky ReLU, after the convolutions if there are any.
        features: Size of the result.
        generator: Source of the initial weights.
        from_bytes: Whether observations are bytes to be scaled to [0, 1]; None: as the space says.
        gain: Orthogonal gain of the last layer.
    """
    bytes_ = space.dtype == np.uint8 if from_bytes is None else from_bytes
    encoder: NatureCNN | VectorEncoder
    if is_image(space):
        encoder = NatureCNN(space.shape, from_bytes=bytes_, generator=generator)
    else:
        encoder = VectorEncoder(int(np.prod(space.shape)), from_bytes=bytes_)
    layers = mlp(encoder.features, hidden, "leaky_relu", generator)
    return nn.Sequential(encoder, layers, linear((encoder.features, *hidden)[-1], features, gain, generator))
