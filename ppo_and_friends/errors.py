"""Errors that are shown to the user as one or two lines, never as a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USAGE = 2
"""Exit status of a mistake in the request (an unknown name, a bad value, no saved state)."""

FAILURE = 1
"""Exit status of something that went wrong while running (an environment that breaks)."""


class PPOError(Exception):
    """A problem the user can act on: says what was wrong, where, and what to do.

    Attributes:
        exit_code: The status with which the program ends when nobody catches the error.
    """

    exit_code = FAILURE


class UsageError(PPOError):
    """The request itself can't be carried out: a wrong name, value, space or state."""

    exit_code = USAGE


class EnvironmentFault(PPOError):
    """An environment raised, or returned something that can't be trained on.

    Attributes:
        traceback: Of the environment's own error, whole; empty if it raised none.
    """

    traceback: str = ""


class CheckpointError(PPOError):
    """A checkpoint is damaged or can't be written."""


class IncompatibleState(UsageError):
    """A saved state belongs to another environment, other spaces or another network."""


class ReplicationError(PPOError):
    """The ranks disagree about something that must be equal on all of them."""


def nearest(name: str, candidates: Iterable[str], count: int = 3, cutoff: float = 0.0) -> list[str]:
    """The ``count`` candidates most like ``name``, best first, upper and lower case alike.

    Args:
        name: What was written.
        candidates: What there is.
        count: How many to return at most.
        cutoff: Least likeness in [0, 1]; 0: the nearest ones, however far.
    """
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=cutoff)
    return [by_lower[lower] for lower in close]
