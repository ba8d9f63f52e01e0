"""Values that go in steps, whatever they are: numbers, words, lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.overrides import parse_value, split_arguments
from ppo_and_friends.settings.schedules import STEP, Schedule, parsed


@dataclass(frozen=True)
class Stages:
    """A value for each stage, and what must be reached for the next."""

    values: tuple[Any, ...]
    """One more than there are bounds."""

    bounds: tuple[tuple[str, float], ...]
    """A number of the run's status and the least it must be, for each stage but the last."""


def stages_of(value: Any) -> Any:
    """A user's value: `Stages` and `Schedule` as they are written on the command line, or itself.

    Raises:
        UsageError: It is written like steps, but wrongly.
    """
    if isinstance(value, Schedule):
        if value.shape != "steps":
            return value
        return Stages((value.start, *value.values), tuple((value.by, bound) for bound in value.at))
    if not isinstance(value, str):
        return value
    if "@" in value:
        return _parsed(value)
    try:
        schedule = parsed(value)
    except ValueError:
        return value  # words
    return schedule if schedule.moves else schedule.start


def _parsed(text: str) -> Stages:
    first, *rest = split_arguments(text)
    found = [STEP.fullmatch(part.strip()) for part in rest]
    try:
        bounds = [(match["by"] or "timesteps", float(match["bound"])) for match in found if match is not None]
    except ValueError:
        bounds = []
    if len(bounds) != len(rest) or not rest or "@" in first:
        raise UsageError(
            f"{text!r}: steps are written START,VALUE@TIMESTEPS or START,VALUE@NAME>=BOUND, such as "
            "false,true@episode_return_mean_100>=250."
        )
    for name, _ in bounds:
        if name in RENAMED_METRICS:
            raise UsageError(f"{text!r}: {name} is called {RENAMED_METRICS[name]} now.")
    values = [first, *(match["value"] for match in found if match is not None)]
    return Stages(tuple(parse_value(each.strip()) for each in values), tuple(bounds))
