"""The report on speed: JSON with every measurement, a Markdown table of medians, and a figure."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from benchmarks.measurements import median_of
from ppo_and_friends.common.atomic_files import replace_file

Results = dict[str, Any]
Row = dict[str, list[dict[str, Any]]]

PARTS = ("environment", "inference", "update", "communication", "rest")
COLORS = ("#009E73", "#56B4E9", "#0072B2", "#D55E00", "#999999")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _ratio(above: float | None, below: float | None) -> str:
    return "-" if above is None or not below else f"{above / below:.2f}"


def rate(row: Row, column: str) -> float | None:
    """The median steps a second of a column; None where it wasn't measured."""
    return median_of(row.get(column, []), "steps_per_second")


def columns_of(results: Results) -> list[str]:
    """Every column of any launcher, in the order of measurement."""
    found: dict[str, None] = {}
    for row in results["rows"].values():
        found |= dict.fromkeys(row)
    return list(found)


def rates_table(results: Results) -> str:
    """Steps a second by launcher and column, with the ratios that the targets are about."""
    columns = columns_of(results)
    ranked = [one for one in columns if one.startswith("ours, ") and one.endswith((" rank", " ranks"))]
    single, most = "ours, 1 rank on 1 core", ranked[-1] if ranked else ""
    ratios = [f"{most} / 1 core", "/ best SB3, our settings", "/ Sample-Factory"]
    lines = ["| steps a second | " + " | ".join([*columns, *ratios]) + " |"]
    lines.append("|---|" + "---:|" * (len(columns) + len(ratios)))
    for name, row in results["rows"].items():
        top = rate(row, most)
        cells = [_number(rate(row, column)) for column in columns]
        cells += [_ratio(top, rate(row, single))]
        cells += [_ratio(top, rate(row, "SB3, our settings")), _ratio(top, rate(row, "Sample-Factory"))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def engine_table(results: Results) -> str:
    """Our share of the bare engine's rate, memory, and where the time goes, for each of our columns."""
    head = ("launcher", "run", "training", "bare engine", "share", "peak MB a rank", *PARTS, "reports")
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for name, row in results["rows"].items():
        for column, measured in row.items():
            engine = median_of(measured, "engine_steps_per_second")
            if engine is None:
                continue
            shares = [median_of([one["split"] for one in measured], part) or 0.0 for part in PARTS]
            # The ratio within each round, since the machine's pace changes between rounds.
            ratios = [
                {"share": one["steps_per_second"] / one["engine_steps_per_second"]}
                for one in measured
                if one.get("engine_steps_per_second")
            ]
            cells = [name, column, _number(rate(row, column)), _number(engine)]
            cells += [f"{median_of(ratios, 'share'):.2f}", _number(median_of(measured, "peak_megabytes"))]
            cells += [f"{100 * share:.0f}%" for share in shares]
            reports = median_of(measured, "reporting")
            cells.append("-" if reports is None else f"{100 * reports:.1f}%")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_speed(results: Results, folder: Path) -> str:
    """Write ``speed.json``, ``speed.md`` and ``speed.png``.

    Returns:
        The text of ``speed.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "speed.json", (json.dumps(results, indent=1) + "\n").encode())
    dirty = " (changed since)" if results["source"]["dirty"] else ""
    commit = (results["source"]["commit"] or "unknown")[:12]
    text = "\n\n".join(
        [
            "# Speed",
            f"Measured at {results['measured_at']} on {results['cores']} cores, commit {commit}{dirty}; "
            f"median of {results['rounds']} rounds of {results['seconds']:g} s each.",
            rates_table(results),
            "Shares of the time and of the bare engine's rate (same engine, same threads, the actions of the "
            "policy that was being trained). Reports: display, CSV and TensorBoard, in CPU time of rank 0:",
            engine_table(results),
            *(f"Failed: {failure}" for failure in results["failures"]),
        ]
    )
    replace_file(folder / "speed.md", (text + "\n").encode())
    _draw(results, folder / "speed.png")
    return text


def _draw(results: Results, path: Path) -> None:
    """A panel for each launcher: a bar for each column, and the bare engine's rate as a tick."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {name: row for name, row in results["rows"].items() if any(row.values())}
    if not shown:
        return
    figure = Figure(
        figsize=(9, 1.0 + sum(0.5 + 0.27 * len(row) for row in shown.values())), layout="constrained"
    )
    FigureCanvasAgg(figure)
    heights = [0.5 + 0.27 * len(row) for row in shown.values()]
    axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).ravel()
    for panel, (name, row) in zip(axes, shown.items(), strict=True):
        labels = list(row)
        for place, label in enumerate(labels):
            value = rate(row, label)
            color = "#0072B2" if label.startswith("ours") else "#E69F00"
            panel.barh(place, value or 0.0, color=color, height=0.7)
            panel.text(value or 0.0, place, f" {_number(value)}", va="center", fontsize=7)
            engine = median_of(row[label], "engine_steps_per_second")
            if engine is not None:
                panel.plot([engine] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
        panel.set_yticks(range(len(labels)), labels, fontsize=7)
        panel.invert_yaxis()
        panel.margins(x=0.12)
        panel.tick_params(axis="x", labelsize=7)
        panel.set_title(name, fontsize=9, loc="left")
    axes[-1].set_xlabel("training steps a second (black: the bare engine)", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())
