"""A run on one page: settings, curves, test, video, versions; one HTML file that needs no network."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.formatting import format_count, format_duration, format_spread, format_value
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.interactive import fragments
from ppo_and_friends.reporting.page_template import STYLE, TEMPLATE
from ppo_and_friends.reporting.plots import Plot, make_plot
from ppo_and_friends.reporting.run_metrics import EVALUATED
from ppo_and_friends.reporting.run_record import Run, load_runs, load_settings
from ppo_and_friends.settings.flat import flatten, value_text

SHOWN = (
    "episode_return_mean",
    "episode_length_mean",
    "value_loss",
    "explained_variance",
    "entropy",
    "kl",
    "clip_fraction",
    "gradient_norm",
    "steps_per_second",
)
"""Columns drawn of every run, the first one large."""

MOST_OTHERS = 6
"""Friends' columns drawn besides."""

MOST_POINTS = 2000
"""Points of a curve in the page; a longer run is thinned."""

VIDEOS = {".gif": "image/gif", ".mp4": "video/mp4", ".webm": "video/webm"}
MOST_BYTES = 30_000_000
"""A larger video stays outside the page."""


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the page.

    Args:
        folder: The run's folder.
        output: Where; None: ``report.html`` in that folder.

    Returns:
        The file.

    Raises:
        UsageError: The folder holds no run, or the page can't be written.
    """
    import jinja2

    runs = load_runs(folder)
    folder = runs[0].folder if len(runs) == 1 else folder
    settings = runs[0].settings if len(runs) == 1 else load_settings(folder)
    record = _json(folder / "experiment.json")
    scores = _json(folder / "test_scores.json")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(TEMPLATE).render(
        style=STYLE,
        name=settings.get("name", folder.resolve().name),
        timesteps=format_count(sum(_last(run, "timesteps") for run in runs)),
        subtitle=_subtitle(settings, record),
        cards=_cards(runs, settings, scores),
        plots=fragments(plots_of(*runs)),
        history=_history(record),
        settings=_settings(record.get("experiment", {})),
        command=shlex.join(map(str, record.get("command_line", []))) or "unknown",
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        video=_video(folder),
        footer=f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by PPO and Friends from {folder.name}/",
        **_test(scores),
    )
    output = output or folder / "report.html"
    try:
        replace_file(output, text.encode())
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}.") from error
    return output


def plots_of(*runs: Run) -> list[Plot]:
    """The pictures of the page: what can be drawn of the standard columns, then the friends' first ones."""
    known = {name for run in runs for name, column in run.columns.items() if np.isfinite(column).any()}
    friends = sorted(name for name in known if "/" in name)
    thinned = [_thinned(run) for run in runs]
    found = []
    for column in (*SHOWN, *friends[:MOST_OTHERS]):
        if column in known:
            found.append(make_plot([run for run in thinned if column in run.columns], column))
    if not found:
        raise UsageError(f"{runs[0].folder} holds no numbers to draw.")
    return found


def _thinned(run: Run) -> Run:
    rows = len(run.columns["iteration"])
    every = -(-rows // MOST_POINTS)
    # Counted from the end, so that the last row stays; evaluations are few, and all stay.
    evaluated = np.isfinite(run.columns.get(EVALUATED, np.full(rows, np.nan)))
    kept = (np.arange(rows)[::-1] % every == 0) | evaluated
    return Run(run.folder, run.settings, {name: column[kept] for name, column in run.columns.items()})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _last(run: Run, column: str) -> float:
    """The last number known in a column."""
    values = run.columns.get(column, np.empty(0))
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


def _subtitle(settings: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    ranks = record.get("ranks", 1)
    history = record.get("history") or [{}]
    begun = str(history[0].get("started_at") or record.get("saved_at", ""))
    parts = [
        str(settings.get("environment.id", "")),
        f"{settings.get('environment.num_envs', '?')} environments on {ranks} rank{'s' * (ranks != 1)}",
        f"seed {settings.get('random_seed', '?')}",
        f"begun {begun[:16].replace('T', ' ')}" if begun else "",
    ]
    return ", ".join(filter(None, parts))


def _cards(
    runs: Sequence[Run], settings: Mapping[str, Any], scores: Mapping[str, Any]
) -> list[dict[str, str]]:
    timesteps, seconds = (sum(_last(run, name) for run in runs) for name in ("timesteps", "seconds"))
    cards = [
        ("timesteps", format_count(timesteps)),
        ("training time", format_duration(seconds)),
        ("steps a second, all in all", format_count(timesteps / seconds if seconds > 0 else math.nan)),
    ]
    for run in runs:
        whose = f"{run.settings.get('name', run.folder.name)}: " if len(runs) > 1 else ""
        cards.append(
            (f"{whose}episode return, last 100", format_value(_last(run, "episode_return_mean_100")))
        )
        if not math.isnan(_last(run, EVALUATED)):
            cards.append((f"{whose}last evaluation during training", format_value(_last(run, EVALUATED))))
    if "mean" in scores:
        count = len(scores.get("episodes", []))
        cards.append((f"test score, {count} episodes", format_spread(scores["mean"], scores["std"])))
    if settings.get("reward_threshold") is not None:
        cards.append(("reward threshold", format_value(float(settings["reward_threshold"]))))
    return [{"label": label, "value": value} for label, value in cards]


def _test(scores: Mapping[str, Any]) -> dict[str, Any]:
    if "mean" not in scores:
        return {"episodes": [], "mean": "", "std": "", "how": ""}
    steps = format_count(scores.get("timesteps", math.nan))
    kind = "most probable" if scores.get("deterministic", True) else "drawn"
    return {
        "episodes": [
            {"return": f"{one['score']:,.2f}", "length": f"{one['length']:,}"} for one in scores["episodes"]
        ],
        "mean": f"{scores['mean']:,.2f}",
        "std": f"{scores['std']:,.2f}",
        "how": f"{scores['environment']}, {kind} actions, after {steps} timesteps",
    }


def _settings(experiment: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings by group, friends as they are written on the command line."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, value in flatten({key: part for key, part in experiment.items() if key != "friends"}).items():
        group, _, key = name.rpartition(".")
        groups.setdefault(group or "run", []).append((key, "-" if value is None else str(value)))
    friends = [
        (
            str(one.get("name")),
            ", ".join(f"{name}={value}" for name, value in one.get("arguments", {}).items()) or "as it is",
        )
        for one in experiment.get("friends", [])
    ]
    return [*groups.items(), *([("friends", friends)] if friends else [])]


def _history(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """When the run was resumed, and with which settings changed; empty for one that ran in one go."""
    sessions = record.get("history") or []
    return [
        {
            "timesteps": f"{session.get('timesteps', 0):,}",
            "when": str(session.get("started_at", ""))[:16].replace("T", " "),
            "ranks": str(session.get("ranks", 1)),
            "changes": "; ".join(
                f"{name}: {value_text(old)} → {value_text(new)}"
                for name, (old, new) in session.get("changes", {}).items()
            )
            or "-",
        }
        for session in (sessions if len(sessions) > 1 else [])
    ]


def _video(folder: Path) -> dict[str, str] | None:
    """The newest recording in the folder, to be put into the page."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in VIDEOS]
    found = [path for path in found if path.stat().st_size <= MOST_BYTES]
    if not found:
        return None
    newest = max(found, key=lambda path: path.stat().st_mtime)
    kind = VIDEOS[newest.suffix.lower()]
    data = base64.b64encode(newest.read_bytes()).decode()
    return {"kind": kind.split("/")[0], "data": f"data:{kind};base64,{data}", "name": newest.name}
