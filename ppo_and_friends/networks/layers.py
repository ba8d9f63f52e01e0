"""Building blocks: multi-layer perceptrons, the Nature CNN, and their initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppo_and_friends.common.images import SMALLEST_IMAGE, image_axes
from ppo_and_friends.errors import UsageError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
}

HIDDEN_GAIN = math.sqrt(2.0)
"""Orthogonal gain of hidden layers, as in the reference implementations of PPO."""


@torch.no_grad()
def orthogonal_(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """Fill a tensor [O, ...] with an orthogonal matrix times ``gain`` (arXiv:1312.6120).

    What ``torch.nn.init.orthogonal_`` does, but decomposed in double precision, then rounded: in single
    precision the last bits depend on the processor and on the number of threads, and so would everything
    that is learned. Rarely, a last bit of a large layer still differs; without AVX2, PyTorch's normals do.
    """
    drawn = torch.empty_like(weight).normal_(generator=generator).flatten(1).double()
    wide = drawn.shape[0] < drawn.shape[1]
    q, r = torch.linalg.qr(drawn.t() if wide else drawn)
    q *= r.diagonal().sign()
    weight.copy_((q.t() if wide else q).reshape(weight.shape)).mul_(gain)


def initialise(layer: nn.Linear | nn.Conv2d, gain: float, generator: torch.Generator) -> None:
    """Give a layer an orthogonal weight times ``gain``, and zero bias."""
    orthogonal_(layer.weight, gain, generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A fully connected layer, orthogonally initialised."""
    layer = nn.Linear(inputs, outputs)
    initialise(layer, gain, generator)
    return layer


def mlp(inputs: int, widths: Sequence[int], activation: str, generator: torch.Generator) -> nn.Sequential:
    """Hidden layers, each followed by its nonlinearity.

    Args:
        inputs: Size of the input.
        widths: Size of each layer; none: the identity.
        activation: A key of ``ACTIVATIONS``.
        generator: Source of the initial weights.
    """
    layers: list[nn.Module] = []
    for width in widths:
        layers += [linear(inputs, width, HIDDEN_GAIN, generator), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers)


class VectorEncoder(nn.Module):
    """Flat observations as they are; bytes (Atari's RAM) scaled to [0, 1]."""

    def __init__(self, size: int, *, from_bytes: bool) -> None:
        """Take observations of ``size`` numbers, which are bytes or floats."""
        super().__init__()
        self.features = size
        self.from_bytes = from_bytes
        # A buffer, so that it knows the network's precision.
        self.register_buffer("byte_scale", torch.tensor(1.0 / 255.0), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, *shape] to [N, features]."""
        observations = observations.flatten(1)
        if self.from_bytes:
            return observations.to(self.byte_scale.dtype) * self.byte_scale  # type: ignore[operator,arg-type]
        return observations


class ByteConv2d(nn.Conv2d):
    """A convolution that reads bytes as numbers in [0, 1].

    Its weights are divided by 255, not the images, which have many times as many numbers, and whose bytes are
    exact in bfloat16.
    """

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W], 0 to 255, in the precision to compute in."""
        outputs: Tensor = self._conv_forward(images, self.weight * (1.0 / 255.0), self.bias)
        return outputs


class NatureCNN(nn.Module):
    """The convolutions of Mnih et al. 2015 (doi:10.1038/nature14236), ending in 512 features."""

    def __init__(
        self,
        shape: Sequence[int],
        *,
        from_bytes: bool,
        generator: torch.Generator,
        half_precision: bool = False,
    ) -> None:
        """Build for images of ``shape``, channels first or last.

        Args:
            shape: Of an image.
            from_bytes: Scale bytes to [0, 1].
            generator: Source of the initial weights.
            half_precision: Compute in bfloat16, with parameters and gradients as they are.

        Raises:
            UsageError: No image, or one too small for the convolutions (under 36 x 36).
        """
        super().__init__()
        axes = image_axes(shape)
        if axes is None:
            raise UsageError(
                f"The Nature CNN needs images, not observations of shape {list(shape)}: "
                "use --set network.encoder=mlp."
            )
        self.channels_last = axes.channel_axis == 2
        channels, height, width = axes.channels, axes.height, axes.width
        if not axes.large_enough:
            raise UsageError(
                f"Images of {height} x {width} are too small for the Nature CNN ({SMALLEST_IMAGE} x "
                f"{SMALLEST_IMAGE} at least): use --set network.encoder=mlp."
            )
        self.from_bytes = from_bytes
        self.half_precision = half_precision
        self.features = 512
        convolutions: list[nn.Module] = []
        for outputs, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            kind = ByteConv2d if from_bytes and not convolutions else nn.Conv2d
            layer = kind(channels, outputs, kernel, stride)
            initialise(layer, HIDDEN_GAIN, generator)
            convolutions += [layer, nn.ReLU(inplace=True)]
            channels = outputs
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        # This layout in memory makes convolutions 1.7 x faster on the CPU.
        self.convolutions = nn.Sequential(*convolutions)
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dense = nn.Linear(channels * height * width, self.features)
        initialise(self.dense, HIDDEN_GAIN, generator)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, *shape] to [N, 512]."""
        if self.channels_last:
            observations = observations.movedim(-1, 1)
        dtype = self.dense.weight.dtype
        # Bytes are exact in bfloat16; going there by way of float32 would be a second copy.
        half = self.half_precision and dtype == torch.float32
        images = observations.to(torch.bfloat16 if half else dtype, memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            features: Tensor = self.dense(self.convolutions(images).flatten(1))
        return features.to(dtype).relu()
