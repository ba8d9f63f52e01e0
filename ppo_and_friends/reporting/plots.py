"""Learning curves as pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppo_and_friends.common.formatting import format_count
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.curves import Curve, curves
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.run_metrics import EVALUATED
from ppo_and_friends.reporting.run_record import Run, load_run

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind people can tell apart."""

STYLES = ("-", "--", "-.", ":")

INSIDE = 34
"""Characters of the longest label that stands in a picture; longer ones, or more than six, stand below it."""

WRAPPED = 88
"""Characters of a label after which it goes on in the next line."""

TITLES = {
    "episode_return_mean": "episode return",
    "episode_return_mean_100": "episode return, mean of the last 100",
    "episode_length_mean": "steps of an episode",
    "timesteps": "timesteps",
    "seconds": "seconds of training",
    "kl": "KL divergence",
}


def title_of(column: str) -> str:
    """A column's name for people."""
    return TITLES.get(column, column.replace("_", " "))


def default_window(runs: Sequence[Run]) -> int:
    """Iterations to smooth over: about a fiftieth of the longest run, an odd number."""
    longest = max(len(run.columns["iteration"]) for run in runs)
    return max(1, longest // 50) | 1


def axis_count(value: float) -> str:
    """A number on an axis, as short as possible: 0, 0.5, 500, 20k, 1.5M."""
    if abs(value) < 999.5:
        return f"{value:.6g}"
    text = format_count(value)
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit


@dataclass(frozen=True)
class Plot:
    """What a picture shows, however it is drawn."""

    drawn: Sequence[Curve]
    """Smoothed, averaged over seeds."""

    raw: Sequence[Curve]
    """Of a single run the values before smoothing, else empty."""

    column: str
    x: str
    """The columns across and up."""

    window: int
    """Iterations that were smoothed over."""

    heading: str
    """The environment, if it is the same for all runs."""

    target: float | None
    """The score that counts as solved, where it can be drawn without squeezing the curves."""

    evaluated: Sequence[Curve] = ()
    """Evaluations during training, beside the scores of a single run or of seeds of one."""

    @property
    def notes(self) -> str:
        """How to read the curves."""
        notes = [f"mean of {self.window} iterations" if self.window > 1 else ""]
        notes.append("band: one standard deviation" if any(curve.runs > 1 for curve in self.drawn) else "")
        return ", ".join(filter(None, notes))

    def label_of(self, curve: Curve) -> str:
        """The curve's label with its number of runs."""
        if any(curve is one for one in self.evaluated):
            return "evaluations"
        label = "training episodes" if self.evaluated else curve.label
        return f"{label} ({curve.runs} runs)" if curve.runs > 1 else label

    @property
    def labelled(self) -> bool:
        """Whether there is anything to tell apart, so that a legend is needed."""
        return len(self.drawn) > 1 or self.drawn[0].runs > 1 or bool(self.evaluated)


def make_plot(
    runs: Sequence[Run],
    column: str = "episode_return_mean",
    *,
    x: str = "timesteps",
    window: int | None = None,
) -> Plot:
    """Prepare a picture of a column of one or many runs.

    Runs that differ only in their seed become one line (their mean) in a band (one sample standard
    deviation up and down). Smoothed lines are drawn over the raw values of single runs.

    Args:
        runs: At least one.
        column: What to draw.
        x: Against what.
        window: Iterations to smooth over; None: a fiftieth of the run.

    Raises:
        UsageError: No run has the column, or there is no number in it.
    """
    window = default_window(runs) if window is None else window
    drawn = curves(runs, column, x=x, window=window)
    if not drawn:
        raise UsageError(f"Nothing to draw: {column} is unknown in all iterations.")
    raw = curves(runs, column, x=x) if len(runs) == 1 and window > 1 else []
    one_name = len({run.settings.get("name") for run in runs}) == 1
    heading = str(runs[0].settings.get("name", runs[0].folder.name)) if one_name else ""
    target = (
        runs[0].settings.get("reward_threshold")
        if one_name and column.startswith("episode_return_mean")
        else None
    )
    evaluated: Sequence[Curve] = []
    if (
        len(drawn) == 1
        and column.startswith("episode_return_mean")
        and any(EVALUATED in run.columns for run in runs)
    ):
        evaluated = curves(runs, EVALUATED, x=x, to_end=False)
    if target is not None and not _near(target, drawn, raw, evaluated):
        target = None
    return Plot(drawn, raw, column, x, window, heading, target, evaluated)


def plot_runs(
    folders: Sequence[Path],
    output: Path,
    *,
    column: str = "episode_return_mean",
    x: str = "timesteps",
    window: int | None = None,
) -> Path:
    """Draw a column of one or many runs into a PNG (or PDF, SVG, by the extension).

    Args:
        folders: The runs' folders.
        output: The picture.
        column: What to draw.
        x: Against what.
        window: Iterations to smooth over; None: a fiftieth of the run.

    Raises:
        UsageError: A folder holds no run, or no run has the column.
    """
    draw(make_plot([load_run(folder) for folder in folders], column, x=x, window=window), output)
    return output


def draw(plot: Plot, output: Path) -> None:
    """Draw a plot into a PNG, PDF or SVG, by the extension."""
    output.parent.mkdir(parents=True, exist_ok=True)
    make_figure(plot).savefig(output)


def make_figure(plot: Plot) -> Any:
    """The plot as a figure of matplotlib, whose legend fits in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    labels = [wrapped(plot.label_of(curve)) for curve in (*plot.drawn, *plot.evaluated)]
    longest = max(len(line) for label in labels for line in label.splitlines())
    below = len(labels) > 6 or longest > INSIDE
    columns = max(1, min(3, WRAPPED // (longest + 8)))
    lines = sum(label.count("\n") + 1 for label in labels) / columns
    # No pyplot: it would choose a window system and keep every figure alive.
    height = 4.8 + 0.16 * max(0.0, lines - 2) * below
    figure = Figure(figsize=(8, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in plot.raw:
        axes.plot(curve.x, curve.mean, color=COLORS[0], alpha=0.25, linewidth=1)
    for i, (curve, label) in enumerate(zip((*plot.drawn, *plot.evaluated), labels, strict=True)):
        color, style = COLORS[i % len(COLORS)], STYLES[i // len(COLORS) % len(STYLES)]
        few = len(curve.x) < (60 if i >= len(plot.drawn) else 3)
        marker: dict[str, Any] = {"marker": "o", "markersize": 4} if few else {}
        axes.plot(curve.x, curve.mean, style, color=color, linewidth=1.8, label=label, **marker)
        if curve.runs > 1:
            axes.fill_between(curve.x, *curve.band, color=color, alpha=0.18, linewidth=0)
    if plot.target is not None:
        # Room for the label, below the heading.
        bottom, top = axes.get_ylim()
        room = 0.06 * (max(top, plot.target) - bottom)
        axes.set_ylim(bottom, max(top, plot.target + room))
        axes.axhline(plot.target, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"target {plot.target:g}", (0.008, plot.target), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="left", va="bottom", fontsize=8, color="0.35",
        )  # fmt: skip
    axes.set_xlabel(title_of(plot.x))
    axes.set_ylabel(title_of(plot.column))
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis_count(value)))
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if plot.x in ("timesteps", "seconds"):
        axes.set_xlim(left=0)
    axes.set_title(plot.heading, loc="left", fontsize=12, fontweight="bold")
    axes.set_title(plot.notes, loc="right", fontsize=8, color="0.4")
    if plot.labelled and below:
        figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=columns)
    elif plot.labelled:
        axes.legend(loc="best", fontsize=9, frameon=True, framealpha=0.85, edgecolor="0.9")
    return figure


def wrapped(label: str, width: int = WRAPPED) -> str:
    """A label in lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(label, width, subsequent_indent="  ")) or label


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
        self._scores += not math.isnan(report.metric("episode_return_mean"))

    def finish(self, summary: str) -> None:
        """Draw it."""
        if self._iterations and self._scores:
            plot_runs([self._folder], self._folder / "learning_curve.png")
