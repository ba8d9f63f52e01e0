"""Finds and creates a user's own reporters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppo_and_friends.common.objects import described
from ppo_and_friends.common.plugins import find_part
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.reporting.reporter import SilentReporter


def find_reporter(name: str) -> type[SilentReporter]:
    """The class of a reporter.

    Args:
        name: The name of an entry point in the group ``ppo_and_friends.reporters``, ``module:Class`` or
            ``path/to/file.py:Class``.

    Raises:
        UsageError: The class doesn't exist, or isn't derived from `SilentReporter`.
    """
    kind = find_part(name, "reporter")
    if not (isinstance(kind, type) and issubclass(kind, SilentReporter)):
        raise UsageError(
            f"{name!r} is not a reporter: it must be a class derived from "
            "ppo_and_friends.reporting.reporter.SilentReporter."
        )
    return kind


def make_reporters(given: Sequence[SilentReporter | str], folder: Path | None) -> list[SilentReporter]:
    """Create the reporters that are given by name. On rank 0.

    Args:
        given: Objects, returned as they are, and names of classes, which are called with the folder.
        folder: The run's folder; None: the run is in memory only.

    Raises:
        UsageError: A reporter can't be found or created.
    """
    made = []
    for one in given:
        if not isinstance(one, str):
            made.append(one)
            continue
        kind = find_reporter(one)
        try:
            made.append(kind(folder))  # type: ignore[call-arg]
        except PPOError:
            raise
        except Exception as error:  # third-party code can raise anything
            raise UsageError(f"Reporter {one!r} can't be created: {described(error)}.") from error
    return made
