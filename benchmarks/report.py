"""The report on what was learned: a table in ``summary.md`` and the README, and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.aggregates import bootstrap_interval, interquartile_mean
from benchmarks.runs import settings_hash
from benchmarks.targets import TARGETS, Target
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError

START, END = "<!-- results:start -->", "<!-- results:end -->"

Record = dict[str, Any]


@dataclass(frozen=True)
class LauncherResults:
    """What is known of a launcher."""

    name: str
    evaluations: tuple[Record, ...]
    """One a seed, all of the same settings, ordered by seed."""

    failures: tuple[Record, ...] = ()
    others: int = 0
    """Evaluations of other settings, which are left out."""

    current: bool = True
    """Whether the launcher still has the settings of these evaluations."""

    @property
    def means(self) -> list[float]:
        """A mean score for each seed."""
        return [one["mean"] for one in self.evaluations]

    @property
    def target(self) -> Target | None:
        """The launcher's yardsticks."""
        return TARGETS.get(self.name)

    @property
    def reached(self) -> bool:
        """Whether the worst of at least three seeds has our target's score within its timesteps."""
        target = self.target
        if target is None or len(self.evaluations) < 3 or self.failures:
            return False
        in_time = all(
            one["timesteps"] < target.timesteps + one["settings"]["ppo"]["rollout_timesteps"]
            for one in self.evaluations  # the last rollout is always finished
        )
        return in_time and min(self.means) >= target.ours


def load_results(results: Path) -> list[LauncherResults]:
    """Everything below ``results``, in the order of the targets."""
    names = sorted(path.name for path in results.iterdir() if any(path.glob("seed-*/*.json")))
    order = {name: place for place, name in enumerate(TARGETS)}
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    return [_load_launcher(results / name) for name in names]


def _load_launcher(folder: Path) -> LauncherResults:
    evaluations = [json.loads(path.read_bytes()) for path in folder.glob("seed-*/evaluation.json")]
    failures = [json.loads(path.read_bytes()) for path in folder.glob("seed-*/failure.json")]
    newest = max(evaluations, key=lambda one: one["evaluated_at"], default=None)
    shared = hash_of(newest) if newest else None
    same = [one for one in evaluations if hash_of(one) == shared]
    same.sort(key=lambda one: one["seed"])
    failures.sort(key=lambda one: one["seed"])
    current = newest is None or current_hash(folder.name) in (None, shared)
    return LauncherResults(folder.name, tuple(same), tuple(failures), len(evaluations) - len(same), current)


def hash_of(evaluation: Record) -> str:
    """Of its settings, as this version reads them."""
    return settings_hash(evaluation["settings"])


def current_hash(name: str) -> str | None:
    """Of the launcher's settings as they are now; None: there is no such launcher."""
    from ppo_and_friends.settings.plain import experiment_settings
    from ppo_and_friends.settings.registry import resolve

    try:
        return settings_hash(experiment_settings(resolve(name)))
    except UsageError:
        return None


def number(value: float | None) -> str:
    """A score for people: no decimals where they say nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def count(value: float) -> str:
    """Timesteps: 60k, 1.5M."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.0f}"


def row(one: LauncherResults) -> list[str]:
    """A launcher's cells."""
    target = one.target
    aim = "-" if target is None else f"{number(target.ours)} @ {count(target.timesteps)}"
    published = "-" if target is None else number(target.published)
    if not one.evaluations:
        return [one.name, aim, published, *["-"] * 6, f"failed ({len(one.failures)})"]
    means = np.array(one.means)
    low, high = bootstrap_interval(means)
    seconds = [s["training_seconds"] for s in one.evaluations if s["training_seconds"] is not None]
    reached = "yes" if one.reached else "no"
    if one.failures:
        reached += f", {len(one.failures)} failed"
    if len(means) < 3:
        reached += f" ({len(means)} of 3 seeds)"
    steps = max(each["timesteps"] for each in one.evaluations)
    return [
        one.name + ("" if one.current else " \\*"),
        aim,
        published,
        count(steps),
        number(means.min()),
        number(means.mean()),
        number(means.max()),
        f"{number(float(interquartile_mean(means)))} [{number(low)}, {number(high)}]",
        f"{np.mean(seconds):,.0f} s" if seconds else "-",
        reached,
    ]


HEADER = (
    "environment",
    "target",
    "best PPO published",
    "timesteps",
    "worst seed",
    "mean",
    "best seed",
    "IQM [95%]",
    "training",
    "reached",
)


def table(launchers: Sequence[LauncherResults]) -> str:
    """The Markdown table with its notes."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 2) + "---|"]
    lines += ["| " + " | ".join(row(one)) + " |" for one in launchers]
    notes = [
        "Scores are means over whole evaluation episodes on the canonical Gymnasium environment, most "
        "probable actions, statistics frozen; the target is for the worst seed. IQM: interquartile mean "
        "over the seeds, with a bootstrap interval. Training: mean seconds on one core."
    ]
    if any(not one.current for one in launchers):
        notes.append("\\* The launcher's settings have changed since.")
    for one in launchers:
        if one.others:
            notes.append(f"{one.name}: {one.others} seeds with other settings are left out.")
        notes += [
            f"{one.name}, seed {bad['seed']}, failed at {count(bad['timesteps'])}: `{bad['error']}`"
            for bad in one.failures
        ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def insert(text: str, content: str, start: str = START, end: str = END) -> str:
    """Put ``content`` between the markers of ``text``, in the place of what is there.

    Raises:
        UsageError: Only one of the markers is there, or they are in the wrong order.
    """
    if start not in text and end not in text:
        return text
    head, found, rest = text.partition(start)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise UsageError(f"The markers {start} and {end} must both be there, in this order.")
    return f"{head}{start}\n{content.strip()}\n{end}{tail}"


def write_report(results: Path, readme: Path | None = None, sections: Path | None = None) -> str:
    """Write ``summary.md`` and ``curves.png``, and put the table into the README.

    Args:
        results: Where the results are.
        readme: Gets the table between its markers, if it has any; None: left alone.
        sections: A page that gets each launcher's block between its markers; None: left alone.

    Returns:
        The table.

    Raises:
        UsageError: There are no results.
    """
    launchers = load_results(results) if results.is_dir() else []
    if not launchers:
        raise UsageError(f"No results in {results} yet.")
    text = table(launchers)
    title = "# Learning results\n\nMade by `python benchmarks/learning.py`; no number is written by hand.\n\n"
    figure = "\n![Learning curves](curves.png)\n"
    replace_file(results / "summary.md", (title + text + figure).encode())
    from benchmarks.figures import draw_curves

    draw_curves(launchers, results, results / "curves.png")
    if readme is not None and readme.is_file():
        old = readme.read_text()
        new = insert(old, text)
        if new != old:
            replace_file(readme, new.encode())
    if sections is not None and sections.is_file():
        from benchmarks.sections import write_sections

        write_sections(launchers, sections, results)
    return text
