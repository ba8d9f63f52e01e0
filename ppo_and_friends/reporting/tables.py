"""Tables for the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

from ppo_and_friends.common.formatting import format_count, format_value

if TYPE_CHECKING:
    from ppo_and_friends.evaluation.evaluate import Evaluation


MOST_ROWS = 20
"""Episodes that are listed one by one; of more, only the statistics are printed."""


def print_evaluation(evaluation: Evaluation, file: TextIO | None = None) -> None:
    """Print a test's episodes and their statistics.

    Args:
        evaluation: What to print.
        file: Where; None: standard output.
    """
    # In a notebook it is text as well, in order with what else is printed.
    file = sys.stdout if file is None else file
    console = Console(file=file, highlight=False, force_jupyter=False)
    how = "deterministic" if evaluation.deterministic else "exploring"
    console.print(
        f"{evaluation.environment}, {how}, after {format_count(evaluation.timesteps)} steps of training"
    )
    shown = evaluation.episodes if len(evaluation.episodes) <= MOST_ROWS else ()
    table = Table()
    table.add_column("episode", justify="right")
    table.add_column("return", justify="right")
    table.add_column("length", justify="right")
    for index, episode in enumerate(shown, 1):
        length = f"{episode.length:,}" + (" (cut off)" if episode.hit_step_limit else "")
        table.add_row(str(index), f"{episode.episode_return:,.2f}", length)
    table.add_section()
    if not shown:
        table.add_row(f"all {len(evaluation.episodes)}", "", "")
    table.add_row("mean", f"{evaluation.mean:,.2f}", f"{mean_length(evaluation):,.1f}")
    table.add_row("std", f"{evaluation.std:,.2f}", "")
    table.add_row("min", f"{evaluation.min:,.2f}", "")
    table.add_row("max", f"{evaluation.max:,.2f}", "")
    console.print(table)
    for name, mean in evaluation.infos.items():
        console.print(f"mean {name} at the end of an episode: {format_value(mean)}")
    stopped = sum(episode.hit_step_limit for episode in evaluation.episodes)
    if stopped:
        longest = max(episode.length for episode in evaluation.episodes if episode.hit_step_limit)
        console.print(
            f"{stopped} episode{'s' * (stopped != 1)} cut off after {longest:,} steps: "
            "the environment didn't end them, so their returns are of that part only."
        )


def mean_length(evaluation: Evaluation) -> float:
    """Mean length of the episodes in steps."""
    return sum(episode.length for episode in evaluation.episodes) / len(evaluation.episodes)
