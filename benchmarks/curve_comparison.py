"""Compares the learning curves of two sides over several seeds, and draws them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import seeds_on_grid
from benchmarks.measurements import MeasurementError
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.curves import Array

Curve = list[list[float]]
"""Points of timesteps and score."""

LIMIT = 3.0
"""Standard errors by which the areas under the curves may differ."""


def compare(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, float]:
    """How far the two sides' curves are apart, in the scale of their spread over seeds.

    Args:
        ours: For each seed [points, 2], timesteps and score.
        theirs: The same.

    Returns:
        Areas under the curves (mean score over the run), their difference in standard errors (Welch's t), and
        the share of the run in which the means are within two standard errors of each other.
    """
    grid, table = seeds_on_grid([_columns(curve) for curve in [*ours, *theirs]])
    mine, other = table[: len(ours)], table[len(ours) :]
    areas = mine.mean(1), other.mean(1)
    gap = areas[0].mean() - areas[1].mean()
    error = math.sqrt(sum(_variance_of_mean(area) for area in areas))
    pointwise = np.sqrt(_variance_of_mean(mine) + _variance_of_mean(other))
    apart = np.abs(mine.mean(0) - other.mean(0))
    return {
        "ours": float(areas[0].mean()),
        "theirs": float(areas[1].mean()),
        "standard_errors": float(gap / error)
        if error > 0
        else (0.0 if gap == 0 else math.copysign(1e9, gap)),
        "within": float(np.mean(apart <= 2 * pointwise)),
        "timesteps": float(grid[-1]),
    }


def _columns(curve: Any) -> tuple[Array, Array]:
    pairs = np.array([pair for pair in curve if pair[1] is not None], dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    if not len(pairs):
        raise MeasurementError("A run ended before its first episode did: there is nothing to compare.")
    return pairs[:, 0], pairs[:, 1]


def _variance_of_mean(values: Array) -> Any:
    """Of the mean over seeds (the first axis); 0 for a single seed."""
    return values.var(0, ddof=1) / len(values) if len(values) > 1 else np.zeros(values.shape[1:])


@dataclass(frozen=True)
class Sides:
    """What is compared, in a table's words."""

    title: str = "Parity with Stable-Baselines3"
    ours: str = "ours"
    theirs: str = "SB3"
    stem: str = "parity"
    """Of the files' names."""


def save(
    curves: dict[str, dict[str, Any]], about: dict[str, Any], output: Path, sides: Sides = Sides()
) -> str:
    """Write the curves as JSON, with what is to be known of them, and report on them; returns the table.

    Raises:
        UsageError: The folder can't be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        replace_file(output / f"{sides.stem}.json", (json.dumps(about | {"curves": curves}) + "\n").encode())
        return report(curves, output, sides)
    except OSError as error:
        raise UsageError(
            f"{output} can't be written: {error.strerror}. Give another --output folder; "
            "what is trained is kept."
        ) from error


def report(curves: dict[str, dict[str, Any]], output: Path, sides: Sides = Sides()) -> str:
    """Write the table and the figure; returns the table.

    Args:
        curves: By environment; of each ``ours`` and ``theirs``, a curve for each seed.
        output: The folder.
        sides: What these two are.
    """
    lines = [
        f"| environment | timesteps | seeds | {sides.ours} | {sides.theirs} | standard errors apart "
        "| within spread | agrees |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, pair in curves.items():
        one = compare(pair["ours"], pair["theirs"])
        agrees = "yes" if abs(one["standard_errors"]) <= LIMIT else "**no**"
        lines.append(
            f"| {name} | {one['timesteps']:,.0f} | {len(pair['ours'])} | {one['ours']:.1f} "
            f"| {one['theirs']:.1f} | "
            f"{one['standard_errors']:+.1f} | {100 * one['within']:.0f}% | {agrees} |"
        )
    text = "\n".join(lines) + "\n\nScores: mean training score over the whole run, mean of the seeds.\n"
    replace_file(output / f"{sides.stem}.md", (f"# {sides.title}\n\n" + text).encode())
    _draw(curves, output / f"{sides.stem}.png", sides)
    return text


def _draw(curves: dict[str, dict[str, Any]], path: Path, sides: Sides) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(3.4 * len(curves), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (name, pair) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        for side, color, label in (("ours", "#0072B2", sides.ours), ("theirs", "#E69F00", sides.theirs)):
            grid, scores = seeds_on_grid([_columns(curve) for curve in pair[side]])
            panel.plot(grid, scores.mean(0), color=color, label=label)
            panel.fill_between(grid, scores.min(0), scores.max(0), color=color, alpha=0.2, linewidth=0)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())
