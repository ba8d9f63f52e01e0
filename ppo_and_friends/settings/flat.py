"""Settings as one level of dotted names, and what differs between experiments, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ppo_and_friends.settings.schedules import schedule_text

FRIENDS = "friends"

PRESENT = "yes"
"""Value of ``friends.<name>`` where that friend is there."""

WATCHING = ("Evaluator", "BestPolicyKeeper", "VideoRecorder")
"""Friends of the project that change nothing about what is learned (``Friend.only_watches``)."""

MECHANICS = (
    "num_timesteps",
    "device",
    "kernels",
    "checkpoint_seconds",
    "keep_checkpoints",
    "exact_resume",
    "reward_threshold",
    "environment.backend",
)
"""Settings of how far and by what means a run goes, rather than of what it is."""

MOST_CHARACTERS = 40
"""Of one value in words."""


def is_schedule(value: Any) -> bool:
    """Whether plain data are a `Schedule`."""
    return isinstance(value, Mapping) and {"start", "end"} <= set(value)


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names; lists become their text, schedules ``start:end``.

    A friend is ``friends.<name>``, its arguments are ``friends.<name>.<argument>``; the order of the friends
    that are there is the order of the names.
    """
    if is_schedule(settings):
        return {prefix: schedule_text(settings)}
    if not isinstance(settings, dict):
        return {prefix: json.dumps(settings) if isinstance(settings, list | tuple) else settings}
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        place = f"{prefix}.{name}" if prefix else str(name)
        if place == FRIENDS and isinstance(value, list | tuple):
            flat |= _friends(value)
        else:
            flat |= flatten(value, place)
    return flat


def _friends(friends: Sequence[Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for friend in friends:
        name = f"{FRIENDS}.{friend['name']}"
        flat[name] = PRESENT
        flat |= {
            key: value for key, value in flatten(friend.get("arguments", {}), name).items() if key != name
        }
    return flat


def friend_of(name: str) -> str:
    """The friend that a flat name is about; empty for any other setting.

    A friend's own name may have dots, as in ``my_package.my_module:MyFriend``, but no argument's has.
    """
    if not name.startswith(f"{FRIENDS}."):
        return ""
    rest = name.removeprefix(f"{FRIENDS}.")
    module, colon, last = rest.rpartition(":")
    return f"{module}{colon}{last.partition('.')[0]}"


def argument_of(name: str) -> str:
    """The argument of a friend that a flat name is about; empty for the friend itself."""
    return name.removeprefix(f"{FRIENDS}.{friend_of(name)}").removeprefix(".")


def differing(experiments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings in which flat experiments differ, in the order of the first one's."""
    names = list(dict.fromkeys(name for flat in experiments for name in flat))
    return [name for name in names if len({repr(_like(flat.get(name))) for flat in experiments}) > 1]


def _like(value: Any) -> Any:
    """1 and 1.0 are the same setting, and so are 1 and the schedule that stays there."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def words(flat: Mapping[str, Any], names: Sequence[str], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """What distinguishes an experiment from others: ``+PreviousAction``, ``clip_range 0.1``.

    Args:
        flat: The experiment.
        names: The settings in which it may differ, as `differing` gives them.
        others: All of them, this one included: a friend that not all have is named with its arguments.
    """
    said = []
    for name in names:
        friend = friend_of(name)
        if friend:
            key = f"{FRIENDS}.{friend}"
            everywhere = all(key in other for other in others)
            if not everywhere and not argument_of(name) and key in flat:
                arguments = [
                    f"{argument_of(each)} {value_text(value)}"
                    for each, value in flat.items()
                    if friend_of(each) == friend and argument_of(each)
                ]
                said.append(" ".join([f"+{friend_title(friend)}", *arguments]))
            elif everywhere and argument_of(name):
                said.append(f"{friend_title(friend)} {argument_of(name)} {value_text(flat.get(name))}")
        else:
            said.append(f"{_short_name(name, names)} {value_text(flat.get(name))}")
    return said


def friend_title(name: str) -> str:
    """A friend's class: ``MyFriend`` of ``my_package.my_module:MyFriend``."""
    return name.rpartition(":")[2]


def value_text(value: Any) -> str:
    """A setting's value as people write it, cut if it is long."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].replace(" ", "").replace('"', "") or "none"
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _short_name(name: str, names: Sequence[str]) -> str:
    """The last part of a dotted name, if no other of the names ends like it."""
    last = name.rpartition(".")[2]
    same = [each for each in names if each.rpartition(".")[2] == last and not friend_of(each)]
    return last if len(same) == 1 else name
