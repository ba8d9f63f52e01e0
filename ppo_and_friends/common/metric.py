"""What a reported number is: its unit and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that is reported, mostly once an iteration."""

    name: str
    """Its column in ``progress.csv``; of a friend's, without the friend's name."""

    meaning: str
    """A phrase that says what the number is, and over what it is taken."""

    unit: str = ""
    """Such as ``s``, ``timesteps`` or ``nats``; empty for a number without one."""

    tag: str = ""
    """TensorBoard's name of it, where that doesn't follow from its own name."""


RENAMED_METRICS: Mapping[str, str] = {
    "clip": "clip_range",
    "score_mean": "episode_return_mean",
    "score_std": "episode_return_std",
    "score_min": "episode_return_min",
    "score_max": "episode_return_max",
    "score_mean_100": "episode_return_mean_100",
    "ValueNormalizer/deviation": "ValueNormalizer/std",
    "PopArt/deviation": "PopArt/std",
}
"""What numbers of an iteration (columns of ``progress.csv``) were called, and are called now."""
