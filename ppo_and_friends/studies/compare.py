"""Compares groups of runs: a table, a verdict for each pair, and a picture."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.formatting import format_count, format_value
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.plots import COLORS, axis_count
from ppo_and_friends.studies import statistics
from ppo_and_friends.studies.compared_runs import Comparison, Group, align, find_group


def compare(
    patterns: Sequence[str],
    *,
    column: str = "episode_return_mean_100",
    output: Path | None = None,
    file: TextIO | None = None,
) -> list[Path]:
    """Compare groups of runs; print the statistics, write them as JSON and draw a picture.

    Args:
        patterns: A folder or a glob for each group, at least two.
        column: The score, a column of ``progress.csv``; its last value counts.
        output: Files to write, without an extension; None: ``comparison`` in the groups' common folder.
        file: Where to print; None: standard output.

    Returns:
        The files.

    Raises:
        UsageError: A group has no runs, nothing is common, or rliable isn't installed.
    """
    if len(patterns) < 2:
        raise UsageError("--compare needs at least two folders (or quoted globs) of runs.")
    groups = _renamed([find_group(pattern) for pattern in patterns])
    statistics.require_rliable()
    comparison = align(groups, column)
    means, found = statistics.interquartile_means(comparison), statistics.pairs(comparison)
    _print(comparison, means, found, file)
    if output is None:
        folders = [run.folder.resolve() for group in groups for each in group.runs.values() for run in each]
        output = Path(os.path.commonpath(folders)) / "comparison"
    record: dict[str, Any] = {
        "column": column,
        "environments": comparison.environments,
        "timesteps": comparison.timesteps,
        "normalised": comparison.normalised,
        "scores": {name: scores.tolist() for name, scores in comparison.raw.items()},
        "interquartile_mean": {name: asdict(mean) for name, mean in means.items()},
        "pairs": [asdict(pair) for pair in found],
        "notes": comparison.notes,
    }
    picture, numbers = output.with_name(f"{output.name}.png"), output.with_name(f"{output.name}.json")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(comparison, picture)
        replace_file(numbers, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UsageError(f"{output}: can't be written: {error.strerror or error}.") from error
    return [picture, numbers]


def _renamed(groups: Sequence[Group]) -> list[Group]:
    """The groups with the part of their names in which they differ.

    Raises:
        UsageError: Two are the same.
    """
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise UsageError("--compare: the same runs are there twice.")
    paths = [Path(name).parts for name in names]
    shared = 0
    while all(len(path) > shared + 1 for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    return [Group("/".join(path[shared:]), group.runs) for path, group in zip(paths, groups, strict=True)]


def _print(
    comparison: Comparison,
    means: dict[str, statistics.Interval],
    found: Sequence[statistics.Pair],
    file: TextIO | None,
) -> None:
    file = file or sys.stdout
    console = Console(file=file, highlight=False, width=None if file.isatty() else 160, markup=False)
    for name in comparison.environments:
        console.print(f"{name}, at {format_count(comparison.timesteps[name])} timesteps")
    if comparison.normalised:
        console.print("Scores of each environment are scaled: 0 is the worst run of all, 1 the best.")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("group", overflow="fold")
    for title in ("runs", "IQM", "95% interval", "worst", "best"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, mean in means.items():
        scores = comparison.scores[name]
        interval = f"{format_value(mean.low)} to {format_value(mean.high)}"
        worst, best = format_value(float(scores.min())), format_value(float(scores.max()))
        table.add_row(name, str(scores.size), format_value(mean.value), interval, worst, best)
    console.print(table)
    for pair in found:
        chance = pair.probability
        console.print(
            f"P({pair.first} > {pair.second}) = {chance.value:.2f} "
            f"({chance.low:.2f} to {chance.high:.2f}): {pair.verdict}.",
            soft_wrap=True,
        )
    for note in comparison.notes:
        console.print(note, soft_wrap=True)


def draw(comparison: Comparison, output: Path) -> None:
    """Curves of the interquartile mean and performance profiles, side by side, with 95% intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    one = len(comparison.environments) == 1
    length = comparison.timesteps[comparison.environments[0]] if one else 1.0
    curves = statistics.mean_curves(comparison)
    tau, profiles = statistics.performance_profiles(comparison)
    for i, name in enumerate(comparison.scores):
        color = COLORS[i % len(COLORS)]
        for axes, x, (middle, bounds) in (
            (left, comparison.share * length, curves[name]),
            (right, tau, profiles[name]),
        ):
            axes.plot(x, middle, color=color, linewidth=1.8, label=name)
            axes.fill_between(x, bounds[0], bounds[1], color=color, alpha=0.18, linewidth=0)
    left.set_xlabel("timesteps" if one else "share of the timesteps")
    left.set_ylabel("score, interquartile mean" + ("" if one else " (scaled)"))
    if one:
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis_count(value)))
    right.set_xlabel("score" + ("" if one else " (scaled)"))
    right.set_ylabel("share of runs with a higher score")
    for axes in (left, right):
        axes.grid(True, color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    left.legend(loc="best", fontsize=9, frameon=True, framealpha=0.85, edgecolor="0.9")
    figure.suptitle(", ".join(comparison.environments), x=0.01, ha="left", fontsize=12, fontweight="bold")
    right.set_title("bands: 95% bootstrap intervals", loc="right", fontsize=8, color="0.4")
    figure.savefig(output)
