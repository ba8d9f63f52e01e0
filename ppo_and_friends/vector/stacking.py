"""How many frames, one after the other, are stacked in an image observation."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.settings.overrides import parse_call

SIZES = ("stack_size", "num_stack", "n_stack")
"""What wrappers that stack frames call their number: Gymnasium, gym, and others."""


def stacked_frames(settings: EnvironmentSettings, declared: spaces.Space[Any] | None) -> int:
    """Frames in an observation, as settings, wrappers and the declared space say; 1: nothing says so.

    The length of an axis says nothing by itself: three channels are as well red, green and blue.

    Args:
        settings: Of the environment.
        declared: Observation space of one environment, not encoded; None: unknown.
    """
    if settings.atari is not None:
        return settings.atari.stack
    if isinstance(declared, spaces.Box) and len(declared.shape) == 4:
        return declared.shape[0]
    frames = 1
    for text in settings.wrappers:
        name, arguments = parse_call(text)
        if "framestack" in name.lower().replace("_", ""):
            sizes = [value for key, value in arguments.items() if key in SIZES and isinstance(value, int)]
            frames = sizes[0] if sizes else frames
    return frames
