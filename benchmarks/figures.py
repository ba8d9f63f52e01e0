"""The figure of all learning curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import LauncherResults, count
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.reporting.curves import Array, load_run

POINTS = 300
COLUMNS = 4
OURS, SOLVED, PUBLISHED = "#0072B2", "#009E73", "#D55E00"


def seeds_on_grid(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Put curves of different timesteps on one grid.

    Args:
        curves: Timesteps and scores, [points] each, of each seed.

    Returns:
        Timesteps [POINTS], where every seed has values, and scores [seeds, POINTS].
    """
    low = max(x[0] for x, _ in curves)
    high = max(low, min(x[-1] for x, _ in curves))
    grid = np.linspace(low, high, POINTS)
    return grid, np.array([np.interp(grid, x, y) for x, y in curves])


def draw_curves(launchers: Sequence[LauncherResults], results: Path, path: Path) -> None:
    """Draw a small panel for each launcher: the seeds' mean and spread, solved line, target, best PPO."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [one for one in launchers if one.evaluations]
    if not shown:
        return
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * rows + 0.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, one in zip(axes, shown, strict=False):
        _draw_panel(panel, one, results / one.name)
    for panel in axes[len(shown) :]:
        panel.set_visible(False)
    handles = {
        label: handle
        for panel in axes[: len(shown)]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=max(1, round(1.4 * columns)),
        fontsize=8,
    )
    buffer = io.BytesIO()
    canvas.figure.savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())


def _draw_panel(panel: Any, one: LauncherResults, folder: Path) -> None:
    curves = []
    for evaluation in one.evaluations:
        run = load_run(folder / f"seed-{evaluation['seed']}" / "curve.csv")
        x, y = run.columns["timesteps"], run.columns["score_mean_100"]
        known = np.isfinite(x) & np.isfinite(y)
        if known.any():
            curves.append((x[known], y[known]))
    if curves:
        grid, scores = seeds_on_grid(curves)
        panel.plot(grid, scores.mean(0), color=OURS, linewidth=1.4, label="training score, mean of seeds")
        panel.fill_between(
            grid,
            scores.min(0),
            scores.max(0),
            color=OURS,
            alpha=0.22,
            linewidth=0,
            label="worst to best seed",
        )
    ends = [evaluation["timesteps"] for evaluation in one.evaluations]
    panel.plot(
        ends, one.means, "o", color=OURS, markersize=3.5, label="evaluation of each seed", clip_on=False
    )
    target = one.target
    if target is not None:
        if target.solved is not None:
            panel.axhline(target.solved, color=SOLVED, linewidth=1, linestyle="--", label="solved")
        if target.published is not None:
            panel.axhline(
                target.published, color=PUBLISHED, linewidth=1, linestyle=":", label="best published PPO"
            )
        panel.plot([target.timesteps], [target.ours], "*", color="black", markersize=7, label="our target")
    panel.set_title(one.name, fontsize=9)
    panel.tick_params(labelsize=7)
    panel.xaxis.set_major_formatter(lambda value, _: count(value))
    panel.grid(alpha=0.25, linewidth=0.5)
