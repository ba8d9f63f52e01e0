"""Formatting of an iteration: a live display for the terminal, a line for a log. Pure functions."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from ppo_and_friends.common.formatting import format_count, format_duration, format_spread, format_value
from ppo_and_friends.common.infos import PREFIX
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.run_metrics import EVALUATED

MOST_FRIENDS = 8
"""Friends' metrics shown unless everything is asked for."""

SUCCESS = f"{PREFIX}is_success"
"""What many environments report at an episode's end: 1 if its goal was reached, else 0."""

TIMES = ("environment", "inference", "update", "communication", "evaluation")


def scores(report: IterationReport) -> list[tuple[str, str]]:
    """Labels and texts of the episodes' numbers."""
    low, high = report.metric("episode_return_min"), report.metric("episode_return_max")
    evaluated = evaluation(report)
    span = f"{format_value(low)} .. {format_value(high)}" if not math.isnan(low) else format_value(low)
    return [
        *([("evaluation", evaluated)] if evaluated else []),
        (
            "episode return",
            format_spread(report.metric("episode_return_mean"), report.metric("episode_return_std")),
        ),
        ("lowest .. highest", span),
        ("last 100 episodes", format_value(report.metric("episode_return_mean_100"))),
        ("episode length", format_value(report.metric("episode_length_mean"))),
        ("episodes", format_value(report.metric("episodes"))),
        ("iteration", f"{report.iteration:,}"),
        ("training time", format_duration(report.seconds)),
        ("gradient norm", format_value(report.metric("gradient_norm"))),
    ]


def evaluation(report: IterationReport) -> str:
    """The last evaluation's mean score, and the best one's; empty before the first."""
    score, best = report.metric(EVALUATED), report.highest.get(EVALUATED, math.nan)
    if math.isnan(score):
        return ""
    return f"{format_value(score)} (best {format_value(best)})" if best > score else format_value(score)


def losses(report: IterationReport) -> list[tuple[str, str]]:
    """Labels and texts of the update's numbers."""
    return [
        ("policy loss", format_value(report.metric("policy_loss"))),
        ("value loss", format_value(report.metric("value_loss"))),
        ("entropy", format_value(report.metric("entropy"))),
        ("KL divergence", format_value(report.metric("kl"))),
        ("clip fraction", format_value(report.metric("clip_fraction"))),
        ("explained variance", format_value(report.metric("explained_variance"))),
        ("learning rate", format_value(report.metric("learning_rate"))),
        ("clip range", format_value(report.metric("clip_range"))),
    ]


def friends(report: IterationReport, everything: bool) -> list[tuple[str, str]]:
    """Labels and texts of the friends' metrics, the first few unless ``everything`` is wanted."""
    names = sorted(name for name in report.metrics if "/" in name)
    shown = names if everything else names[:MOST_FRIENDS]
    return [(name, format_value(report.metric(name))) for name in shown]


def time_split(report: IterationReport) -> str:
    """Where the iteration's time went, as ``environment 45 %, inference 12 %, ...``."""
    times = {name: report.metric(f"time_{name}") for name in TIMES}
    known = {name: seconds for name, seconds in times.items() if seconds > 0}
    total = sum(known.values())
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in known.items())


def share_done(report: IterationReport) -> float:
    """Share of the timesteps that is done, in [0, 1]."""
    return min(1.0, report.timesteps / max(1, report.num_timesteps))


def render(
    title: str, report: IterationReport, seconds_left: float, *, everything: bool = False
) -> RenderableType:
    """The live display: a bar above two columns of numbers; fits 80 columns.

    Args:
        title: What is trained, and where.
        report: The latest iteration.
        seconds_left: Expected until the end; NaN if unknown.
        everything: Show all the friends' metrics and where the time goes.
    """
    steps = f"{format_count(report.timesteps)}/{format_count(report.num_timesteps)} steps"
    rate = f"{format_count(report.metric('steps_per_second'))}/s"
    done = share_done(report)
    progress = Table.grid(Column(ratio=1), Column(no_wrap=True), padding=(0, 2), expand=True)
    progress.add_row(
        ProgressBar(
            total=1.0, completed=done, complete_style="cyan", finished_style="cyan", pulse_style="cyan"
        ),
        Text(f"{math.floor(100 * done)}%  {steps}  {rate}  {format_duration(seconds_left)} left"),
    )
    table = Table.grid(
        Column(no_wrap=True, overflow="ellipsis", ratio=5),
        Column(no_wrap=True, justify="right", ratio=5),
        Column(width=2),
        Column(no_wrap=True, overflow="ellipsis", ratio=5),
        Column(no_wrap=True, justify="right", ratio=3),
        padding=(0, 1, 0, 0),
        expand=True,
    )
    left, right = scores(report), losses(report)
    extra = friends(report, everything)
    half = (len(extra) + 1) // 2
    left, right = left + extra[:half], right + extra[half:]
    right += [("", "")] * (len(left) - len(right))
    for (name, value), (other_name, other_value) in zip(left, right, strict=True):
        table.add_row(name, Text(value, style="bold"), "", other_name, Text(other_value, style="bold"))
    parts: list[RenderableType] = [
        Text(title, style="bold cyan", no_wrap=True, overflow="ellipsis"),
        progress,
        table,
    ]
    if everything and time_split(report):
        parts.append(Text(f"time: {time_split(report)}", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


IN_THE_LINE = (
    "episode_return_mean",
    "episode_return_std",
    "episode_return_mean_100",
    "episode_length_mean",
    "steps_per_second",
    "kl",
    "explained_variance",
    EVALUATED,
    SUCCESS,
)
"""Metrics that `plain_line` has already."""

LINE_WIDTH = 100
"""Characters of the lines that ``--verbose`` adds."""


def more_lines(report: IterationReport) -> list[str]:
    """All other numbers of the iteration that are known, and where its time went, in indented lines."""
    known = [
        f"{name} {format_value(value)}"
        for name, value in report.metrics.items()
        if name not in IN_THE_LINE and not name.startswith("time_") and not math.isnan(value)
    ]
    spent = time_split(report)
    lines = [""]
    for item in (*known, *([f"time: {spent}"] if spent else [])):
        if lines[-1] and len(lines[-1]) + len(item) + 2 > LINE_WIDTH:
            lines.append("")
        lines[-1] += f"{'  ' if lines[-1] else '    '}{item}"
    return lines


def plain_line(report: IterationReport, seconds_left: float) -> str:
    """The iteration in one line of a log."""
    score = format_spread(report.metric("episode_return_mean"), report.metric("episode_return_std"))
    evaluated, success = evaluation(report), report.metric(SUCCESS)
    return "  ".join(
        [
            f"iteration {report.iteration}",
            f"{format_count(report.timesteps)}/{format_count(report.num_timesteps)} steps",
            f"{format_count(report.metric('steps_per_second'))}/s",
            f"{format_duration(seconds_left)} left",
            *([f"evaluation {evaluated}"] if evaluated else []),
            f"return {score} (last 100: {format_value(report.metric('episode_return_mean_100'))})",
            *([f"success {success:.0%}"] if not math.isnan(success) else []),
            f"length {format_value(report.metric('episode_length_mean'))}",
            f"KL {format_value(report.metric('kl'))}",
            f"EV {format_value(report.metric('explained_variance'))}",
        ]
    )
