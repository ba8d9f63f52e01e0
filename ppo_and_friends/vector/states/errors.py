"""What can be wrong with the state of an environment."""

from __future__ import annotations


class NoStateError(Exception):
    """An environment holds something whose state can't be saved or set; the message says where and what."""


class BadStateError(ValueError):
    """Data that can't be a state: they were damaged, or are somebody's invention."""
