"""The texts of ``--list`` and ``--list_friends``."""

from __future__ import annotations

import inspect
import io
import os
import shutil
import sys

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ppo_and_friends.settings.registry import all_launchers
from ppo_and_friends.settings.schedules import Schedule

UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NARROW = 90
"""Terminal width below which the table of launchers is set more tightly."""

PIPED_WIDTH = 1000
"""Width of output that isn't a terminal: nothing is folded, so that every line can be searched."""


def version() -> str:
    """The program's version, and those of Python and of the libraries that results depend on."""
    from ppo_and_friends.common.versions import library_versions

    versions = library_versions()
    own = versions.pop("ppo-and-friends", "(not installed: run from its checkout)")
    return "\n".join([f"ppo-and-friends {own}", *(f"{name} {each}" for name, each in versions.items())])


def launchers(width: int | None = None) -> str:
    """All launchers: name, id, spaces, budget in timesteps and target score.

    Args:
        width: In columns; None: the terminal's, or as wide as need be without one.
    """
    console = _console(width)
    gap = 1 if console.width < NARROW else 2
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for title in ("name", "id"):
        table.add_column(title, no_wrap=True, overflow="ignore")
    table.add_column("spaces", overflow="fold")
    for title in ("budget", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    for launcher in all_launchers():
        experiment = launcher.experiment()
        target = experiment.reward_threshold
        table.add_row(
            launcher.name,
            launcher.id.rpartition(":")[2],  # without the module that registers it
            launcher.spaces,
            short_count(experiment.num_timesteps),
            "" if target is None else f"{target:g}",
        )
    console.print(table)
    return _text(console)


def friends(width: int | None = None) -> str:
    """All friends: name, what it does, its arguments, where it comes from.

    Args:
        width: In columns; None: the terminal's, or as wide as need be without one.
    """
    from ppo_and_friends.friends.catalog import find_friend, known_friends

    console = _console(width)
    for name in known_friends():
        kind = find_friend(name)
        description = (inspect.getdoc(kind) or "").split("\n\n", 1)[0].replace("\n", " ")
        console.print(Text.assemble((name, "bold"), f": {description}"))
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        arguments = ", ".join(_argument(one) for one in parameters if one.kind not in UNNAMED)
        for line in (arguments, kind.source):
            if line:
                console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))
    return _text(console)


def short_count(count: int) -> str:
    """A number of timesteps in few characters: 60k, 1.5M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    default = parameter.default
    # As the command line takes it.
    return f"{parameter.name}={default if isinstance(default, Schedule) else repr(default)}"


def _console(width: int | None) -> Console:
    """Writes into a text. No markup: brackets in a range of values are no tags."""
    terminal = sys.stdout.isatty()
    if width is None:
        # COLUMNS counts in a pipe, too: a pager's reader may have set it.
        asked = terminal or os.environ.get("COLUMNS", "").isdecimal()
        width = shutil.get_terminal_size().columns if asked else PIPED_WIDTH
    return Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        markup=False,
        highlight=False,
        legacy_windows=False,
    )


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
