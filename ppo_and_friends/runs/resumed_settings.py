"""What of a run's settings may change when it is resumed, and what would make it another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ppo_and_friends.errors import IncompatibleState, PPOError
from ppo_and_friends.friends.catalog import find_friend
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.flat import (
    FRIENDS,
    MECHANICS,
    WATCHING,
    argument_of,
    differing,
    flatten,
    friend_of,
    friend_title,
    is_schedule,
    value_text,
)
from ppo_and_friends.settings.plain import completed_settings, experiment_settings

ORDER = "friends' order"
"""A difference in the order in which friends are called."""

SHOWN = 6
"""Maximum number of differences listed in an error message."""


@dataclass(frozen=True)
class Change:
    """A setting that differs from the run's."""

    name: str
    """Flat name, such as ``ppo.clip_range`` or ``friends.KLEarlyStop.target``."""

    old: Any
    """The run's value; None where the setting isn't there."""

    new: Any
    """The value asked for; None where the setting isn't there."""

    defining: bool
    """Whether a run with the new value would be another run."""

    def __str__(self) -> str:
        """``ppo.clip_range is 0.1 (the run has 0.2)``, or what friend is new or missing."""
        friend = friend_of(self.name)
        if friend and not argument_of(self.name):
            return f"{friend_title(friend)} is {'missing' if self.new is None else 'new'}"
        name = f"{friend_title(friend)}'s {argument_of(self.name)}" if friend else self.name
        return f"{name} is {value_text(self.new)} (the run has {value_text(self.old)})"


def changes_since(checkpoint: Checkpoint, experiment: Experiment) -> list[Change]:
    """How the settings asked for differ from those a checkpoint was trained with.

    What says how far and by what means a run goes may change: `settings.flat.MECHANICS`, where schedules
    end, and friends that only watch. Anything else defines the run.

    Args:
        checkpoint: The run's newest.
        experiment: What is asked for.
    """
    saved = checkpoint.manifest.get("experiment")
    if not isinstance(saved, dict):
        return []
    old, new = completed_settings(saved), experiment_settings(experiment)
    olds, news = flatten(old), flatten(new)
    found = []
    for name in differing([olds, news]):
        friend = friend_of(name)
        if (
            friend
            and argument_of(name)
            and (f"{FRIENDS}.{friend}" in olds) != (f"{FRIENDS}.{friend}" in news)
        ):
            continue  # the friend itself is named
        if friend:
            defining = not _only_watches(friend, experiment)
        else:
            ends = _start(old, name) is not None and _start(old, name) == _start(new, name)
            defining = name != "name" and name not in MECHANICS and not ends
        found.append(Change(name, olds.get(name), news.get(name), defining))
    orders = [
        [name for name in each if name in news and name in olds and friend_of(name)] for each in (olds, news)
    ]
    orders = [[friend_of(name) for name in each if not argument_of(name)] for each in orders]
    if orders[0] != orders[1]:
        found.append(Change(ORDER, ", ".join(orders[0]), ", ".join(orders[1]), True))
    return found


def refuse_another_run(folder: object, changes: list[Change]) -> None:
    """Refuse changes that define a run.

    Raises:
        IncompatibleState: Names the differences and what to do.
    """
    lines = [str(change) for change in changes if change.defining]
    if not lines:
        return
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    raise IncompatibleState(
        f"{folder} holds a run with other settings: {'; '.join(lines[:SHOWN])}{more}.\n"
        "Train beside it with --run_name, start over with --clobber, or go on with the changes with "
        "--accept_changes."
    )


def _start(settings: Mapping[str, Any], name: str) -> float | None:
    """Where a schedule starts; None for any other setting."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not is_schedule(value) or value.get("function"):
        return None
    return float(value["start"])


def _only_watches(name: str, experiment: Experiment) -> bool:
    kinds = [spec.kind for spec in experiment.friends if spec.name == name and spec.kind is not None]
    if name in WATCHING:
        return True
    try:
        kind: Any = kinds[0] if kinds else find_friend(name)
    except PPOError:  # a saved friend that isn't there any more
        return False
    return bool(getattr(kind, "only_watches", False))
