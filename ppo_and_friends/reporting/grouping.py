"""Which runs are seeds of one experiment, and what each experiment is called in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ppo_and_friends.reporting.run_record import Run
from ppo_and_friends.settings.flat import FRIENDS, MECHANICS, PRESENT, WATCHING, differing, friend_of, words

NOT_COMPARED = ("random_seed", *(name for name in MECHANICS if name != "num_timesteps"))
"""Settings by which runs of one group may differ. How long a run was to be counts: schedules depend on it."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    """What distinguishes the group from the others in the picture."""

    runs: tuple[Run, ...]
    """At least one."""


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs by everything that is set, but the seed; in the order of each group's first run.

    A label says what differs in words, such as ``+PreviousAction`` or ``clip_range 0.1``, after the name of
    the launcher if there are several.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    labels = labels_of([members[0] for members in groups.values()])
    return [Group(label, tuple(members)) for label, members in zip(labels, groups.values(), strict=True)]


def labels_of(runs: Sequence[Run]) -> list[str]:
    """A label of its own for each of some runs, no two of which are seeds of each other."""
    names = [_name(run) for run in runs]
    several = len(set(names)) > 1
    labels = []
    for run, name in zip(runs, names, strict=True):
        same = [_compared(other) for other, its in zip(runs, names, strict=True) if its == name]
        said = words(_compared(run), differing(same), same) if run.settings else []
        labels.append(" ".join(filter(None, [name if several or not said else "", ", ".join(said)])))
    # What is cut, or lies in the order of the friends, may leave two with the same words.
    return [
        f"{label} ({run.folder.name})" if labels.count(label) > 1 else label
        for label, run in zip(labels, runs, strict=True)
    ]


def _name(run: Run) -> str:
    return str(run.settings.get("name", run.folder.resolve().name))


def _key(run: Run) -> str:
    if not run.settings:
        return str(run.folder.resolve())
    compared = _compared(run)
    order = [name for name, value in compared.items() if value == PRESENT and friend_of(name)]
    return repr((sorted(compared.items(), key=lambda item: item[0]), order))


def _compared(run: Run) -> Mapping[str, Any]:
    watching = tuple(f"{FRIENDS}.{name}" for name in WATCHING)
    return {
        name: value
        for name, value in run.settings.items()
        if name not in NOT_COMPARED and f"{FRIENDS}.{friend_of(name)}" not in watching
    }
