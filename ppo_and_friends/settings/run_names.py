"""Names for runs that stand beside each other: from a template, or from what was changed."""

from __future__ import annotations

import hashlib
import re

from ppo_and_friends.errors import UsageError
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
    value_text,
)
from ppo_and_friends.settings.plain import experiment_settings

DEFAULT = "{changes}-seed={seed}"
"""The template of a name that isn't given."""

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
MOST_CHARACTERS = 120
"""Of a name; file systems allow 255 bytes."""


def run_name(template: str, launched: Experiment, experiment: Experiment) -> str:
    """A run's name, which is that of its folder: the launcher's name, then the template filled in.

    Args:
        template: With ``{seed}``, ``{launcher}``, ``{changes}`` (what was changed of the launcher's settings)
            or any setting, such as ``{ppo.gamma}``, in it; empty: `DEFAULT`.
        launched: The launcher's settings.
        experiment: The run's settings.

    Returns:
        Such as ``CartPole-clip_range=0.1-seed=2``. What can't stand in a folder's name becomes ``_``.

    Raises:
        UsageError: A placeholder is unknown, or nothing is left of the name.
    """
    flat = flatten(experiment_settings(experiment))
    known = {
        "seed": str(experiment.random_seed),
        "launcher": experiment.name,
        "changes": "-".join(changes_in_words(launched, experiment)),
    }

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in known:
            return known[name]
        if name not in flat:
            raise UsageError(
                f"--run_name {template}: there is no {{{name}}}. "
                "Use {seed}, {changes}, {launcher} or a setting such as {ppo.gamma}."
            )
        return value_text(flat[name])

    text = PLACEHOLDER.sub(value, template or DEFAULT)
    text = re.sub(r"[^\w.+=,-]+", "_", text)
    text = re.sub(r"-{2,}", "-", text).strip("-.")
    if not text:
        raise UsageError(f"--run_name {template!r} leaves no name for the run's folder.")
    if not re.match(rf"{re.escape(experiment.name)}(?![A-Za-z0-9])", text):
        text = f"{experiment.name}-{text}"
    if len(text) > MOST_CHARACTERS:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text[: MOST_CHARACTERS - 9]}-{digest}"
    return text


def changes_in_words(launched: Experiment, experiment: Experiment) -> list[str]:
    """What was changed of what defines a run, but the seed: ``clip_range=0.1``, ``no_RewardNormalizer``."""
    old, new = flatten(experiment_settings(launched)), flatten(experiment_settings(experiment))
    found = []
    for name in differing([old, new]):
        friend = friend_of(name)
        if friend:
            there = [f"{FRIENDS}.{friend}" in each for each in (old, new)]
            if friend in WATCHING or (argument_of(name) and not there[1]):
                continue
            title, argument = friend_title(friend), argument_of(name)
            if there[1] and not argument and any(each.startswith(f"{name}.") for each in new):
                continue  # its arguments name it
            if argument:
                found.append(f"{title}.{argument}={value_text(new.get(name))}")
            else:
                found.append(title if there[1] else f"no_{title}")
        elif name not in (*MECHANICS, "random_seed", "name"):
            found.append(f"{name.rpartition('.')[2]}={value_text(new.get(name))}")
    return found
