"""What an image is: the one definition, for spaces as environments declare them and as networks get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gymnasium import spaces

SMALLEST_IMAGE = 36
"""Smallest height and width, in pixels, for which the Nature CNN's three convolutions have an output."""


@dataclass(frozen=True)
class ImageAxes:
    """Where an array's channels, rows and columns are."""

    channel_axis: int
    """0 or 2: the channels are the short side, wherever they stand."""

    channels: int
    height: int
    width: int

    @property
    def large_enough(self) -> bool:
        """Whether the Nature CNN has an output for it."""
        return min(self.height, self.width) >= SMALLEST_IMAGE


def image_axes(shape: Sequence[int]) -> ImageAxes | None:
    """The axes of an array of three axes, [channels, height, width] or [height, width, channels].

    Args:
        shape: Of one observation, or of one part of it.

    Returns:
        None for any other number of axes.
    """
    if len(shape) != 3:
        return None
    first, second, third = shape
    if third < first:
        return ImageAxes(2, third, first, second)
    return ImageAxes(0, first, second, third)


def is_image(space: spaces.Box) -> bool:
    """Whether arrays of this space are images that convolutions can read.

    Encoded observations (`vector.spaces.encoded_space`) have three axes only where they are.
    """
    axes = image_axes(space.shape)
    return axes is not None and axes.large_enough
