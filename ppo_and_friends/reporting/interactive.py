"""The same plots as interactive pages: one HTML file each, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.reporting.plots import COLORS, Plot, title_of, wrapped

DASHES = ("solid", "dash", "dashdot", "dot")

LEGEND_WIDTH, LEGEND_LINE = 72, 19
"""Characters of a label in a line of the legend, and such a line's height in pixels."""

PICTURE, MOST_OF_A_WINDOW = 480, 150
"""Height of a picture above a long legend, and the height from which a legend is long, in pixels."""

CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def _faded(color: str, alpha: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def figure(plot: Plot, *, height: int | None = None, named: bool = False) -> Any:
    """The plot as a Plotly figure.

    Args:
        plot: What to draw.
        height: In pixels; None: as high as the window.
        named: Call it by what it shows; False: by the environment.
    """
    import plotly.graph_objects as go

    result = go.Figure()
    for curve in plot.raw:
        line = {"color": _faded(COLORS[0], 0.3), "width": 1}
        result.add_scatter(x=curve.x, y=curve.mean, line=line, name="each iteration", mode="lines")
    names = []
    for i, curve in enumerate((*plot.drawn, *plot.evaluated)):
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        evaluation = i >= len(plot.drawn)
        name = f"mean of {plot.window}" if plot.raw and not evaluation else plot.label_of(curve)
        names.append(name := wrapped(name, LEGEND_WIDTH).replace("\n", "<br>"))
        if curve.runs > 1:
            low, high = curve.band
            across = np.concatenate((curve.x, curve.x[::-1]))
            result.add_scatter(
                x=across, y=np.concatenate((high, low[::-1])), fill="toself", fillcolor=_faded(color, 0.18),
                line={"width": 0}, hoverinfo="skip", showlegend=False, legendgroup=name, mode="lines",
            )  # fmt: skip
        mode = "lines+markers" if len(curve.x) < (60 if evaluation else 3) else "lines"
        result.add_scatter(
            x=curve.x, y=curve.mean, name=name, legendgroup=name, mode=mode,
            line={"color": color, "width": 2.2, "dash": dash},
        )  # fmt: skip
    if plot.target is not None:
        result.add_hline(
            plot.target, line={"color": "#777", "width": 1, "dash": "dash"},
            annotation={"text": f"target {plot.target:g}", "font": {"size": 11, "color": "#555"}},
            annotation_position="top left",
        )  # fmt: skip
    about = title_of(plot.column) if named else plot.heading
    heading = f"<b>{about}</b>" if about else ""
    note = f'<span style="font-size:11px;color:#777">{plot.notes}</span>' if plot.notes else ""
    below, tall = _legend(names) if plot.labelled else ({}, 0)
    if height is None and tall > MOST_OF_A_WINDOW:
        height = PICTURE + tall  # the page scrolls rather than the legend
    result.update_layout(
        template="plotly_white",
        height=height,
        title={"text": "   ".join(filter(None, (heading, note))), "x": 0.01, "font": {"size": 16}},
        xaxis={
            "title": {"text": title_of(plot.x), "standoff": 8},
            "tickformat": "~s" if plot.x == "timesteps" else ",~r",
            "rangemode": "tozero",
        },
        yaxis={} if named else {"title": title_of(plot.column)},
        hovermode="x unified",
        showlegend=plot.labelled,
        legend=below,
        margin={"l": 48 if named else 64, "r": 24, "t": 48, "b": 48 + tall},
        font={"family": "system-ui, sans-serif"},
    )
    return result


def _legend(names: Sequence[str]) -> tuple[dict[str, Any], int]:
    """A legend below the picture, short names side by side and long ones in a column; and its height."""
    place = {"yref": "container", "yanchor": "bottom", "y": 0.01, "x": 0, "tracegroupgap": 0}
    lines = sum(name.count("<br>") + 1 for name in names)
    if sum(len(name) + 10 for name in names) <= LEGEND_WIDTH:
        return {"orientation": "h", **place}, 36
    return {"orientation": "v", "maxheight": 1.0, **place}, LEGEND_LINE * lines + 16


def write_interactive(plot: Plot, output: Path) -> Path:
    """Write the plot as a page that needs no network (4.5 MB, most of it Plotly itself)."""
    text = figure(plot).to_html(include_plotlyjs=True, full_html=True, config=CONFIG)
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, text.encode())
    return output


def fragments(plots: Sequence[Plot], *, height: int = 340) -> list[str]:
    """The plots as pieces of a page; the first one carries Plotly for all of them."""
    return [
        figure(plot, height=height, named=True).to_html(
            include_plotlyjs=i == 0,
            full_html=False,
            config=CONFIG | {"displayModeBar": False},
            div_id=f"plot-{plot.column}",
        )
        for i, plot in enumerate(plots)
    ]
