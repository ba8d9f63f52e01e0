"""Values that change while a run goes on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic.dataclasses import dataclass

from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.common.objects import resolve_object
from ppo_and_friends.errors import UsageError

Shape = Literal["linear", "cosine", "log", "steps"]

STEP = re.compile(r"(?P<value>[^@]+)@(?:(?P<by>[\w/]+)>=)?(?P<bound>.+)")
"""A step as text: ``1e-4@100000`` by timesteps, ``1e-4@episode_return_mean_100>=200`` by anything else."""


@dataclass(frozen=True)
class Status:
    """How far a run is: what schedules depend on. Equal on all ranks."""

    progress: float
    """Share of the run's timesteps that is done, in [0, 1]."""

    highest: Mapping[str, float] = field(default_factory=dict)
    """The highest value that each number of the run's status has had: ``timesteps``, ``iteration``,
    ``episode_return_mean_100`` (counted only once 100 episodes are in it), and every other metric of an
    iteration."""

    latest: Mapping[str, float] = field(default_factory=dict)
    """The numbers of the last iteration; of those that it had none of, nothing."""


@dataclass(frozen=True)
class Schedule:
    """A value that changes over the run, continuously or in steps.

    On the command line: ``3e-4`` is constant, ``1e-3:0`` goes from 1e-3 to 0 in a straight line,
    ``1e-3:1e-5:log`` names the shape. ``1e-3,5e-4@100000,1e-4@200000`` goes down in steps at these timesteps,
    ``1e-3,1e-4@episode_return_mean_100>=200`` once a number of the run's status has reached a bound, and
    ``my_module:my_function`` calls a function.
    """

    start: float = 0.0
    """Value at the first timestep."""

    end: float | None = None
    """Value at the last timestep; None: constant, or in steps."""

    shape: Shape = "linear"
    """The way from start to end: a straight line, half a period of a cosine (arXiv:1608.03983, eq. 5), a
    straight line in log space, or ``steps``."""

    at: tuple[float, ...] = ()
    """With ``steps``: ascending bounds."""

    values: tuple[float, ...] = ()
    """With ``steps``: the value once the bound at the same place has been reached. It stays reached."""

    by: str = "timesteps"
    """With ``steps``: the metric of the run that the bounds refer to."""

    function: str | None = None
    """``module:function`` or ``path/to/file.py:function`` that gets the `Status` and returns the value,
    instead of all of the above. It must depend on nothing else, so that all ranks agree."""

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if any(math.isnan(value) for value in self.extremes()):
            raise ValueError("not a number")
        if self.end is not None and not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError("both ends of a moving value must be finite")
        if self.shape == "log" and (self.end is None or min(self.start, self.end) <= 0.0):
            raise ValueError("shape log needs a start and an end above 0")
        if (self.shape == "steps") != bool(self.at) or len(self.at) != len(self.values):
            raise ValueError("shape steps, and it alone, needs at and values of the same length")
        if list(self.at) != sorted(self.at):
            raise ValueError("the bounds of steps must ascend")
        return self

    def __str__(self) -> str:
        """As the command line takes it."""
        return str(schedule_text(asdict(self)))

    @property
    def moves(self) -> bool:
        """Whether it isn't constant."""
        return self.end is not None or bool(self.at) or self.function is not None

    def extremes(self) -> tuple[float, ...]:
        """All the values between which it stays; of a function, none are known."""
        ends = () if self.end is None else (self.end,)
        return () if self.function is not None else (self.start, *ends, *self.values)

    def value(self, status: Status, least: float = -math.inf) -> float:
        """The value at a time of the run.

        Args:
            status: How far the run is.
            least: Of what a user's function may return; all other values are checked in advance.

        Raises:
            UsageError: The user's function can't be found, raised, or returned no finite number >= ``least``.
        """
        if self.function is not None:
            return _asked(self.function, status, least)
        if self.shape == "steps":
            reached = sum(status.highest.get(self.by, -math.inf) >= bound for bound in self.at)
            return (self.start, *self.values)[reached]
        if self.end is None:
            return self.start
        progress = min(max(status.progress, 0.0), 1.0)
        if self.shape == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.shape == "log":
            return float(self.start * (self.end / self.start) ** progress)
        return self.start + (self.end - self.start) * progress


def linear(start: float, end: float = 0.0) -> Schedule:
    """A straight line from ``start`` at the first timestep to ``end`` at the last."""
    return Schedule(start, end)


def cosine(start: float, end: float = 0.0) -> Schedule:
    """Half a period of a cosine from ``start`` to ``end`` (arXiv:1608.03983, eq. 5)."""
    return Schedule(start, end, "cosine")


def logarithmic(start: float, end: float) -> Schedule:
    """From ``start`` to ``end``, both above 0, by the same factor in equal times."""
    return Schedule(start, end, "log")


def steps(start: float, *steps: tuple[float, float], by: str = "timesteps") -> Schedule:
    """Constant between steps.

    Args:
        start: Value before the first step.
        steps: Pairs of a bound and the value from there on, bounds ascending.
        by: The number of the run's status that the bounds are about.
    """
    return Schedule(
        start,
        shape="steps",
        at=tuple(bound for bound, _ in steps),
        values=tuple(value for _, value in steps),
        by=by,
    )


def schedule_text(values: Mapping[str, Any]) -> float | str:
    """A schedule's plain data as a number, or as the text that the command line takes."""
    if values.get("function"):
        return str(values["function"])
    start, end, shape = values["start"], values.get("end"), values.get("shape", "linear")
    if shape == "steps":
        by = values.get("by", "timesteps")
        condition = "" if by == "timesteps" else f"{by}>="
        pairs = zip(values["at"], values["values"], strict=True)
        return ",".join([f"{start:g}", *(f"{value:g}@{condition}{bound:g}" for bound, value in pairs)])
    if end is None:
        return float(start)
    return f"{start:g}:{end:g}" + ("" if shape == "linear" else f":{shape}")


def _asked(name: str, status: Status, least: float) -> float:
    function = _function(name)
    where = f"schedule {name}, at progress {status.progress:g}"
    try:
        value = float(function(status))
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{where}: {type(error).__name__}: {error}.") from error
    if not (math.isfinite(value) and value >= least):
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise UsageError(f"{where}: returned {value:g}, not a finite number{bound}.")
    return value


@lru_cache(maxsize=64)
def _function(name: str) -> Callable[[Status], float]:
    function: Callable[[Status], float] = resolve_object(name, "schedule")
    return function


def _to_schedule(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return Schedule(float(value))
    if isinstance(value, str):
        return parsed(value)
    if isinstance(value, list | tuple) and len(value) > 1 and all("@" in str(step) for step in value[1:]):
        return parsed(",".join(str(step) for step in value))
    return value


def parsed(text: str) -> Schedule:
    """A schedule as the command line has it.

    Raises:
        ValueError: It isn't one.
    """
    if "@" in text:
        return _parsed_steps(text)
    parts = text.split(":")
    if re.fullmatch(r"([A-Za-z_][\w.]*|[^:]+\.py):[A-Za-z_][\w.]*", text):
        return Schedule(function=text)
    shape = parts.pop() if len(parts) == 3 and parts[2] in ("linear", "cosine", "log") else "linear"
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError("neither a number nor START:END[:SHAPE] nor START,VALUE@BOUND")
    return Schedule(numbers[0], numbers[1] if len(numbers) > 1 else None, shape)  # type: ignore[arg-type]


def _parsed_steps(text: str) -> Schedule:
    first, *rest = text.split(",")
    found = [STEP.fullmatch(part.strip()) for part in rest]
    names = {match["by"] or "timesteps" for match in found if match is not None}
    try:
        pairs = [(float(match["bound"]), float(match["value"])) for match in found if match is not None]
        start = float(first)
    except ValueError:
        pairs = []
    if len(pairs) != len(rest) or len(names) != 1:
        raise ValueError("steps are written START,VALUE@BOUND or START,VALUE@NAME>=BOUND, all with one NAME")
    name = names.pop()
    if name in RENAMED_METRICS:
        raise ValueError(f"{name} is called {RENAMED_METRICS[name]} now")
    return steps(start, *pairs, by=name)


def _not_negative(schedule: Schedule) -> Schedule:
    if not all(0.0 <= value < math.inf for value in schedule.extremes()):
        raise ValueError("all values must be at least 0 and finite")
    return schedule


def as_schedule(value: Schedule | float | str) -> Schedule:
    """A schedule from whatever a setting of that kind accepts.

    Raises:
        ValueError: It is none of these.
    """
    schedule = _to_schedule(value)
    if not isinstance(schedule, Schedule):
        raise ValueError(f"not a schedule: {value!r}")
    return schedule


AnySchedule = Annotated[Schedule, BeforeValidator(_to_schedule)]
"""A field of this type also accepts a number (constant), or the text of the command line."""

ScheduleLike = Annotated[Schedule, BeforeValidator(_to_schedule), AfterValidator(_not_negative)]
"""As `AnySchedule`, with no value below 0."""
