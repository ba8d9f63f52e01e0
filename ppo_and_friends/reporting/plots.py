"""Learning curves as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.curves import Curve, Run, curves, load_run
from ppo_and_friends.reporting.formatting import format_count
from ppo_and_friends.reporting.reporter import SilentReporter

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind people can tell apart."""

STYLES = ("-", "--", "-.", ":")

TITLES = {
    "score_mean": "score of an episode",
    "score_mean_100": "score, mean of the last 100 episodes",
    "episode_length_mean": "steps of an episode",
    "timesteps": "timesteps",
    "seconds": "seconds of training",
    "kl": "KL divergence",
}


def title_of(column: str) -> str:
    """A column's name for people."""
    return TITLES.get(column, column.replace("_", " "))


def default_window(runs: Sequence[Run]) -> int:
    """Iterations to smooth over: a fiftieth of the longest run."""
    longest = max(len(run.columns["iteration"]) for run in runs)
    return max(1, longest // 50)


def plot_runs(
    folders: Sequence[Path],
    output: Path,
    *,
    column: str = "score_mean",
    x: str = "timesteps",
    window: int | None = None,
) -> Path:
    """Draw a column of one or many runs into a PNG (or PDF, SVG, by the extension).

    Runs that differ only in their seed become one line (their mean) in a band (one sample standard
    deviation up and down). Smoothed lines are drawn over the raw values of single runs.

    Args:
        folders: The runs' folders.
        output: The picture.
        column: What to draw.
        x: Against what.
        window: Iterations to smooth over; None: a fiftieth of the run.

    Raises:
        UsageError: A folder holds no run, or no run has the column.
    """
    runs = [load_run(folder) for folder in folders]
    window = default_window(runs) if window is None else window
    drawn = curves(runs, column, x=x, window=window)
    if not drawn:
        raise UsageError(f"Nothing to draw: {column} is unknown in all iterations.")
    raw = curves(runs, column, x=x) if len(runs) == 1 and window > 1 else []
    target = runs[0].settings.get("target_score") if column.startswith("score_mean") else None
    heading = str(runs[0].settings.get("name", runs[0].folder.name))
    if len({run.settings.get("name") for run in runs}) > 1:
        heading = ""
        target = None
    draw(drawn, raw, output, column=column, x=x, window=window, heading=heading, target=target)
    return output


def draw(
    drawn: Sequence[Curve],
    raw: Sequence[Curve],
    output: Path,
    *,
    column: str,
    x: str,
    window: int,
    heading: str,
    target: float | None,
) -> None:
    """Draw curves; see `plot_runs`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # No pyplot: it would choose a window system and keep every figure alive.
    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in raw:
        axes.plot(curve.x, curve.mean, color=COLORS[0], alpha=0.25, linewidth=1)
    for i, curve in enumerate(drawn):
        color, style = COLORS[i % len(COLORS)], STYLES[i // len(COLORS) % len(STYLES)]
        label = f"{curve.label} ({curve.runs} runs)" if curve.runs > 1 else curve.label
        marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(curve.x) < 3 else {}
        axes.plot(curve.x, curve.mean, style, color=color, linewidth=1.8, label=label, **marker)
        if curve.runs > 1:
            low, high = curve.mean - curve.spread, curve.mean + curve.spread
            axes.fill_between(curve.x, low, high, color=color, alpha=0.18, linewidth=0)
    if target is not None and _near(target, drawn, raw):
        axes.axhline(target, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"target {target:g}", (0.008, target), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="left", va="bottom", fontsize=8, color="0.35",
        )  # fmt: skip
    axes.set_xlabel(title_of(x))
    axes.set_ylabel(title_of(column))
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else format_count(value)))
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if x in ("timesteps", "seconds"):
        axes.set_xlim(left=0)
    notes = [f"mean of {window} iterations" if window > 1 else ""]
    notes.append("band: one standard deviation" if any(curve.runs > 1 for curve in drawn) else "")
    axes.set_title(heading, loc="left", fontsize=12, fontweight="bold")
    axes.set_title(", ".join(filter(None, notes)), loc="right", fontsize=8, color="0.4")
    if len(drawn) > 1 or drawn[0].runs > 1:
        below = len(drawn) > 6 or max(len(curve.label) for curve in drawn) > 45
        if below:
            figure.legend(loc="outside lower center", fontsize=8, frameon=False)
        else:
            axes.legend(loc="best", fontsize=9, frameon=True, framealpha=0.85, edgecolor="0.9")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)


def _near(target: float, *groups: Sequence[Curve]) -> bool:
    """Whether the target can be drawn without squeezing the curves into a line."""
    values = np.concatenate([curve.mean for group in groups for curve in group])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    height = max(high - low, 1e-9)
    return math.isfinite(target) and low - height <= target <= high + height


class LearningCurve(SilentReporter):
    """Draws ``learning_curve.png`` when the training has ended."""

    def __init__(self, folder: Path) -> None:
        """Draw the run in ``folder`` from its ``progress.csv``."""
        self._folder = folder
        self._iterations = 0
        self._scores = 0

    def iteration(self, report: Any) -> None:
        """Note that there is something to draw."""
        self._iterations += 1
        self._scores += not math.isnan(report.metric("score_mean"))

    def finish(self, summary: str) -> None:
        """Draw it."""
        if self._iterations and self._scores:
            plot_runs([self._folder], self._folder / "learning_curve.png")
