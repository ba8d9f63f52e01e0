"""The tables of ``--list`` and ``--list_friends``."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Table

from ppo_and_friends.registry import all_launchers


def show_launchers(console: Console | None = None) -> None:
    """Print all launchers: name, id, spaces, budget in timesteps and target score."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "id", "spaces"):
        table.add_column(title, overflow="fold")
    for title in ("budget", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    for launcher in all_launchers():
        experiment = launcher.experiment()
        target = experiment.target_score
        table.add_row(
            launcher.name,
            launcher.id,
            launcher.spaces,
            f"{experiment.num_timesteps:,}",
            "" if target is None else f"{target:g}",
        )
    (console or Console()).print(table)


def show_friends(console: Console | None = None) -> None:
    """Print all friends: name, what it does, its arguments, where it comes from."""
    from ppo_and_friends.friends.catalog import find_friend, known_friends

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("friend", "what it does", "arguments", "source"):
        table.add_column(title, overflow="fold")
    for name in known_friends():
        kind = find_friend(name)
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        arguments = ", ".join(f"{parameter.name}={parameter.default!r}" for parameter in parameters)
        description = (inspect.getdoc(kind) or "").split("\n", 1)[0]
        table.add_row(name, description, arguments, kind.source)
    (console or Console()).print(table)
