"""The report on what was learned: ``summary.md``, the README's table, and ``docs/environments.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import draw_learning
from benchmarks.learning_results import (
    LauncherResults,
    Record,
    bootstrap_interval,
    interquartile_mean,
    load_results,
)
from benchmarks.report import count, insert, markdown, number
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.schedules import schedule_text

START, END = "<!-- results:start -->", "<!-- results:end -->"
HEADER = (
    *("environment", "target", "best PPO published", "timesteps", "worst seed", "mean", "best seed"),
    *("IQM [95%]", "training", "reached"),
)
NOTE = (
    "Scores are means over whole evaluation episodes on the canonical Gymnasium environment, most "
    "probable actions, statistics frozen; the target is for the worst seed. IQM: interquartile mean "
    "over the seeds, with a bootstrap interval. Training: seconds "
    "on one core, of the fastest seed, since other work on the machine only adds to them."
)


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
    return [
        one.name + ("" if one.current else " \\*"),
        aim,
        published,
        count(max(each["timesteps"] for each in one.evaluations)),
        *map(number, (means.min(), means.mean(), means.max())),
        f"{number(float(interquartile_mean(means)))} [{number(low)}, {number(high)}]",
        f"{min(seconds):,.0f} s" if seconds else "-",
        reached,
    ]


def table(launchers: Sequence[LauncherResults]) -> str:
    """The Markdown table with its notes."""
    notes = [NOTE]
    if any(not one.current for one in launchers):
        notes.append("\\* The launcher's settings have changed since.")
    for one in launchers:
        if one.others:
            notes.append(f"{one.name}: {one.others} seeds with other settings are left out.")
        for bad in one.failures:
            at = f"{one.name}, seed {bad['seed']}, failed at {count(bad['timesteps'])}"
            notes.append(f"{at}: `{bad['error']}`")
    return "\n\n".join([markdown(HEADER, map(row, launchers), text=(0, -1)), *notes]) + "\n"


def write_report(results: Path, readme: Path | None = None, sections: Path | None = None) -> str:
    """Write ``summary.md`` and ``curves.png``; returns the table.

    Between their markers, if any, ``readme`` gets the table, and the page ``sections`` each launcher's block.
    """
    launchers = load_results(results) if results.is_dir() else []
    if not launchers:
        raise UsageError(f"No results in {results} yet.")
    text = table(launchers)
    title = "# Learning results\n\nMade by `python benchmarks/learning.py`; no number is written by hand.\n\n"
    figure = "\n![Learning curves](curves.png)\n"
    replace_file(results / "summary.md", (title + text + figure).encode())
    draw_learning(launchers, results, results / "curves.png")
    if readme is not None and readme.is_file():
        replace_file(readme, insert(readme.read_text(), text, START, END).encode())
    if sections is not None and sections.is_file():
        write_sections(launchers, sections, results)
    return text


def write_sections(launchers: Sequence[LauncherResults], page: Path, results: Path) -> None:
    """Put each launcher's block between its markers, where the page has them, and draw its curve."""
    text = page.read_text()
    for one in launchers:
        start, end = f"<!-- {one.name}:start -->", f"<!-- {one.name}:end -->"
        if start in text and one.evaluations:
            text = insert(text, block(one), start, end)
            (results / "curves").mkdir(exist_ok=True)
            draw_learning([one], results, results / "curves" / f"{one.name}.png")
    replace_file(page, text.encode())


def block(one: LauncherResults) -> str:
    """A launcher's target, result, settings and curve, as Markdown."""
    settings = one.evaluations[0]["settings"]
    target, means = one.target, one.means
    lines = []
    if target is not None:
        verdict = "reached" if one.reached else f"missed by {number(target.ours - min(means))}"
        if not one.reached and min(means) >= target.ours:
            verdict = "not shown: fewer than three seeds, or too many timesteps"
        aim = f"{number(target.ours)} within {count(target.timesteps)} timesteps"
        lines.append(f"- **Target** {aim}, worst seed: **{verdict}**.")
    lines += [
        f"- **Result** of {len(means)} seeds after {count(max(e['timesteps'] for e in one.evaluations))} "
        f"timesteps: {', '.join(number(mean) for mean in sorted(means))}.",
        f"- **Settings** {describe(settings)}.",
        f"- **Friends** {', '.join(map(friend_text, settings['friends'])) or 'none'}.",
        "",
        f"![{one.name}](../results/curves/{one.name}.png)",
    ]
    return "\n".join(lines)


def describe(settings: Record) -> str:
    """The numbers that people ask for."""
    ppo, network = settings["ppo"], settings["network"]
    start, entropy = float(network["log_std_init"]), ppo["entropy_coefficient"]
    parts = [
        f"{settings['environment']['num_envs']} environments",
        f"rollout {ppo['rollout_timesteps']:,}",
        f"minibatch {ppo['minibatch_size']:,}",
        f"{ppo['epochs']} epochs",
        f"learning rate {schedule(ppo['learning_rate'])}",
        f"clip range {schedule(ppo['clip_range'])}",
        f"gamma {ppo['gamma']:g}",
        f"GAE lambda {ppo['gae_lambda']:g}",
        f"{'-'.join(map(str, network['actor_hidden']))} {network['activation']}",
        *([f"initial log standard deviation {start:g}"] if start else []),
        *([f"entropy coefficient {schedule(entropy)}"] if entropy["start"] else []),
    ]
    return ", ".join(parts)


def schedule(value: Record) -> str:
    """``0.0003``, ``0.001 to 0``, or the text of the command line for any other shape."""
    text = schedule_text(value)
    if value.get("shape", "linear") != "linear":
        return str(text)
    return f"{text:g}" if isinstance(text, float) else text.replace(":", " to ")


def friend_text(spec: Record) -> str:
    """``ICM``, ``ICM(scale=0.1)`` or ``StdClip(limit=1:0.1)``."""
    arguments = []
    for name, value in spec["arguments"].items():
        scheduled = isinstance(value, dict) and "start" in value
        arguments.append(f"{name}={schedule_text(value) if scheduled else value}")
    return spec["name"] + (f"({', '.join(arguments)})" if arguments else "")
