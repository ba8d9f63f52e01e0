"""Figures of learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_results import Array, LauncherResults
from benchmarks.report import count

POINTS = 300
COLUMNS = 4
OURS, THEIRS, SOLVED, PUBLISHED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
TRAINING, FAILED = "#56B4E9", "#777777"
EVALUATION = "Evaluator/score"


def seeds_on_grid(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Put curves (timesteps and scores of each seed, [points] each) on one grid.

    Returns:
        Timesteps [POINTS], where every seed has values, and scores [seeds, POINTS].
    """
    low = max(x[0] for x, _ in curves)
    high = max(low, min(x[-1] for x, _ in curves))
    grid = np.linspace(low, high, POINTS)
    return grid, np.array([np.interp(grid, x, y) for x, y in curves])


def draw_learning(launchers: Sequence[LauncherResults], results: Path, path: Path) -> None:
    """Draw a panel for each launcher: mean and spread of the seeds, target, solved line, best PPO.

    The curve is of periodic evaluations where all seeds have them (the friend Evaluator), else of the
    training episodes.
    """
    shown = [one for one in launchers if one.evaluations]
    if not shown:
        return
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    # A single panel is wide enough for its legend.
    figure = new_figure(3.3 * columns + 1.5 * (columns == 1), 2.5 * rows + 0.7)
    handles: dict[str, Any] = {}
    for place, one in enumerate(shown):
        panel = figure.add_subplot(rows, columns, place + 1)
        _draw_panel(panel, one, results / one.name)
        panel.set_xlabel("timesteps" if place + columns >= len(shown) else "", fontsize=8)
        panel.set_ylabel("episode return" if place % columns == 0 else "", fontsize=8)
        drawn, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, drawn, strict=True))
    how = {"loc": "outside lower center", "ncols": min(2 if columns == 1 else 4, len(handles))}
    figure.legend(handles.values(), handles.keys(), fontsize=6.5 if columns == 1 else 8, **how)
    save_figure(figure, path)


def _curves(one: LauncherResults, folder: Path, column: str) -> list[tuple[Array, Array]]:
    """Timesteps and values of each seed that has the column."""
    from ppo_and_friends.reporting.run_record import load_run  # late: it loads torch

    curves = []
    for evaluation in one.evaluations:
        columns = load_run(folder / f"seed-{evaluation['seed']}" / "curve.csv").columns
        x, y = columns["timesteps"], columns.get(column, np.array(np.nan))
        known = np.isfinite(x) & np.isfinite(y)
        if known.any():
            curves.append((x[known], y[known]))
    return curves


def _draw_panel(panel: Any, one: LauncherResults, folder: Path) -> None:
    curves, color, label = _curves(one, folder, EVALUATION), OURS, "evaluations during training"
    if len(curves) < len(one.evaluations):
        curves = _curves(one, folder, "episode_return_mean_100")
        color, label = TRAINING, "training (exploring), last 100 episodes"
        if any(spec["name"] == "HardReset" for spec in one.evaluations[0]["settings"]["friends"]):
            # Each rollout begins anew: only episodes that fail within it are ever finished.
            color, label = FAILED, "training, failed episodes alone"
    if curves:
        _draw_seeds(panel, curves, color, f"{label}: mean of seeds", "worst to best")
    ends = [evaluation["timesteps"] for evaluation in one.evaluations]
    dots = {"color": OURS, "markersize": 3.5, "clip_on": False, "zorder": 4}
    panel.plot(ends, one.means, "o", label="final evaluation of a seed", **dots)
    target = one.target
    if target is not None:
        levels = (target.solved, SOLVED, "--", "solved"), (target.published, PUBLISHED, ":", "published PPO")
        for level, hue, style, name in levels:
            if level is not None:
                panel.axhline(level, color=hue, linewidth=1, linestyle=style, label=name)
        panel.plot([target.timesteps], [target.ours], "*", color="black", markersize=7, label="our target")
    _label(panel, one.name)


def _draw_seeds(
    panel: Any, curves: Sequence[tuple[Array, Array]], color: str, label: str, band: str | None = None
) -> None:
    """The mean of the seeds, in a band from the worst to the best."""
    grid, scores = seeds_on_grid(curves)
    panel.plot(grid, scores.mean(0), color=color, linewidth=1.4, label=label)
    panel.fill_between(grid, scores.min(0), scores.max(0), color=color, alpha=0.22, linewidth=0, label=band)


def _label(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.tick_params(labelsize=7)
    panel.xaxis.set_major_formatter(lambda value, _: count(value))
    panel.grid(alpha=0.25, linewidth=0.5)


def draw_sides(curves: dict[str, dict[str, list[tuple[Array, Array]]]], path: Path) -> None:
    """Draw a panel for each environment: our curves (timesteps and scores of each seed) and a peer's."""
    figure = new_figure(max(4.5, 3.4 * len(curves)), 2.8)
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (name, pair) in zip(axes, curves.items(), strict=True):
        for side, color, label in (("ours", OURS, "ours"), ("theirs", THEIRS, "SB3")):
            _draw_seeds(panel, pair[side], color, label)
        _label(panel, name)
        panel.set_xlabel("timesteps", fontsize=8)
        panel.legend(fontsize=7)
    axes[0].set_ylabel("episode return", fontsize=8)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Any:
    """An empty Matplotlib figure, in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=110)
