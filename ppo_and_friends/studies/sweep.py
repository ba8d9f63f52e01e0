"""What a study is made of: environments, variants of settings, seeds."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ppo_and_friends.common.objects import one_line
from ppo_and_friends.errors import UsageError

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)
SEEDS = re.compile(r"(\d+)(?:-(\d+))?")
MOST_RUNS = 100_000
LONGEST = 100
"""Characters in the name of a variant."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Changes:
    """What a named variant changes."""

    set: dict[str, Any] = field(default_factory=dict)
    """Settings by dotted name, as for ``--set``."""

    with_: Annotated[tuple[str, ...], Field(alias="with")] = ()
    """Friends to add, as for ``--with``."""

    without: tuple[str, ...] = ()
    """Friends to remove."""

    def arguments(self) -> list[str]:
        """The same for the command line."""
        texts = [f"--set={name}={setting_text(value)}" for name, value in self.set.items()]
        texts += [f"--with={one}" for one in self.with_]
        return texts + [f"--without={one}" for one in self.without]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sweep(Changes):
    """A study: every environment with every variant of the settings and every seed."""

    environment: str | tuple[str, ...]
    """One or several of what ``-e`` accepts."""

    seeds: str | int | tuple[int, ...] = "1-5"
    """Seeds: ``1-5``, ``1,3,7-9``, or a list."""

    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings with the values to try; all combinations are trained."""

    variants: dict[str, Changes] = field(default_factory=dict)
    """Named changes to try, each with every point of the grid."""

    num_timesteps: int | None = None
    """Agent steps of each run; None: the launcher's."""

    arguments_: Annotated[tuple[str, ...], Field(alias="arguments")] = ()
    """Further options of the command line, such as ``--eval_every=10000``."""

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments as a tuple."""
        return (self.environment,) if isinstance(self.environment, str) else self.environment

    def all_seeds(self) -> list[int]:
        """The seeds, each once.

        Raises:
            UsageError: They can't be read.
        """
        if isinstance(self.seeds, tuple):
            return list(dict.fromkeys(self.seeds))
        return parse_seeds(str(self.seeds))

    def points(self, *, full_names: bool = False) -> dict[str, list[str]]:
        """The variants' names and their arguments for the command line.

        Args:
            full_names: Name also what all have in common; necessary where studies of other settings share
                the folder.

        Raises:
            UsageError: There are none, or too many.
        """
        common = self.arguments()
        axes = [[(name, value) for value in values] for name, values in self.grid.items()]
        empty = [name for name, values in self.grid.items() if not values]
        if empty:
            raise UsageError(f"The grid has no values for {empty[0]}.")
        found: dict[str, list[str]] = {}
        for label, variant in (self.variants or {"": Changes()}).items():
            for point in itertools.product(*axes):
                name = _name(label, {**(self.set if full_names else {}), **dict(point)}, full_names and self)
                found[name] = [*common, *variant.arguments(), *Changes(set=dict(point)).arguments()]
                if len(found) > MOST_RUNS:
                    raise UsageError(f"The grid has more than {MOST_RUNS:,} points.")
        return found


def _name(label: str, changes: Mapping[str, Any], common: Changes | Literal[False]) -> str:
    short = {name: name.rpartition(".")[2] for name in changes}
    taken = list(short.values())
    texts = [
        f"{short[name] if taken.count(short[name]) == 1 else name}={setting_text(value)}"
        for name, value in changes.items()
    ]
    if common:
        texts += [f"+{one}" for one in common.with_] + [f"-{one}" for one in common.without]
    return file_name(",".join([*([label] if label else []), *texts])) or "default"


def file_name(text: str) -> str:
    """A text as the name of a folder: letters, digits and a few signs; of a long one, the end is a digest."""
    plain = re.sub(r"[^\w.=,+@-]+", "_", text).strip("_.")
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[: LONGEST - 9]}-{zlib.crc32(text.encode()):08x}"


def setting_text(value: Any) -> str:
    """A setting's value as ``--set`` reads it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``1-5`` or ``1,3,7-9``, each once.

    Raises:
        UsageError: It is something else, or runs backwards.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = SEEDS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST_RUNS:
            raise UsageError(f"--seeds {text}: write them as 1-5 or 1,3,7-9.")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def parse_grid(assignments: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Settings and values from ``ppo.gamma=0.99,0.995``; a value with commas stands in brackets.

    Raises:
        UsageError: It isn't written like this, or a setting is there twice.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        values = tuple(part.strip() for part in _split(text))
        if not name.strip() or not all(values):
            raise UsageError(f"--grid {assignment}: write it as name=value,value.")
        if name.strip() in grid:
            raise UsageError(f"--grid {assignment}: {name.strip()} is there twice.")
        grid[name.strip()] = values
    return grid


def _split(text: str) -> Sequence[str]:
    """Split at the commas outside brackets."""
    return re.split(r",(?![^\[(]*[\])])", text)


def as_sweep(values: Mapping[str, Any], source: str) -> Sweep:
    """A study from plain data.

    Args:
        values: Such as a YAML file's content.
        source: Where it is from, for messages.

    Raises:
        UsageError: An unknown name or a wrong value.
    """
    try:
        return TypeAdapter(Sweep).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        raise UsageError(f"{source}: {place}: {problem['msg']}.") from error


def load_sweep(path: Path) -> Sweep:
    """Read a study from a YAML file, or from a Python file with a ``sweep`` in it.

    Args:
        path: YAML: the fields of `Sweep` by name. Python: ``sweep`` is a `Sweep`, a dictionary, or a
            function that returns one of them.

    Raises:
        UsageError: It can't be read, or isn't a study.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    if path.suffix == ".py":
        from ppo_and_friends.common.objects import resolve_object

        values = resolve_object(f"{path}:sweep", "sweep")
        try:
            values = values() if callable(values) else values
        except Exception as error:  # whatever the user's code raises
            raise UsageError(f"{path}: sweep: {type(error).__name__}: {one_line(error)}") from error
        if isinstance(values, Sweep):
            return values
    else:
        import yaml

        try:
            values = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be read: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no study: it must have environment, seeds and grid.")
    return as_sweep(values, str(path))
