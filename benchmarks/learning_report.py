"""The report on what was learned: ``summary.md``, the README's table, and ``docs/environments.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from benchmarks.report import count, markdown, number
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.schedules import schedule_text

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
    reached = "-" if target is None else "yes" if one.reached else "no"
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


SEVERAL_HEADER = ("launcher", "critic", "timesteps", "worst seed", "mean", "best seed", "mean of each agent")


def several_agents(launchers: Sequence[LauncherResults]) -> str:
    """The table of launchers with several agents: scores are means over agents, timesteps those of all."""
    rows = []
    for one in launchers:
        means, settings = np.array(one.means), one.evaluations[0]["settings"]
        agents = {
            name: np.mean([each["agents"][name] for each in one.evaluations])
            for name in one.evaluations[0]["agents"]
            if name != "team"
        }
        by_agent = ", ".join(f"{name} {number(float(mean))}" for name, mean in agents.items())
        steps = count(max(each["timesteps"] for each in one.evaluations))
        scores = map(number, (means.min(), means.mean(), means.max()))
        seeds = f" ({len(means)} seeds)" if len(means) < 3 else ""
        rows.append([one.name + seeds, settings["agents"]["critic"], steps, *scores, by_agent])
    return markdown(SEVERAL_HEADER, rows, text=(0, 1, -1))


def write_report(results: Path, *pages: Path) -> str:
    """Write ``summary.md`` and the curves; returns the table.

    Pages that are there get the table and each launcher's block, where they have the markers of them.
    """
    launchers = load_results(results) if results.is_dir() else []
    if not launchers:
        raise UsageError(f"No results in {results} yet.")
    text = table(launchers)
    title = "# Learning results\n\nMade by `python benchmarks/learning.py`; no number is written by hand.\n\n"
    figure = "\n![Learning curves](curves.png)\n"
    replace_file(results / "summary.md", (title + text + figure).encode())
    draw_learning(launchers, results, results / "curves.png")
    several = [one for one in launchers if one.evaluations and one.of_several_agents]
    blocks = {"results": text, "several agents": several_agents(several)} | {
        one.name: block(one) for one in launchers if one.evaluations
    }
    for page in filter(Path.is_file, pages):
        replace_file(page, insert(page.read_text(), blocks).encode())
    if pages:
        (results / "curves").mkdir(exist_ok=True)
        for one in launchers:
            draw_learning([one], results, results / "curves" / f"{one.name}.png")
    return text


def insert(text: str, blocks: Mapping[str, str]) -> str:
    """Replace what stands between the markers that a text has of each block."""
    for name, content in blocks.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        head, found, rest = text.partition(start)
        _, closed, tail = rest.partition(end)
        if found and closed:
            text = f"{head}{start}\n{content.strip()}\n{end}{tail}"
        elif found or end in text:
            raise UsageError(f"The markers {start} and {end} must both be there, in this order.")
    return text


def block(one: LauncherResults) -> str:
    """A launcher's target, result, settings and curve, as Markdown."""
    settings = one.evaluations[0]["settings"]
    target, means = one.target, one.means
    lines = []
    if target is not None:
        missed = number(target.ours - min(means), like=target.ours)
        verdict = "reached" if one.reached else f"missed by {missed}"
        if not one.reached and min(means) >= target.ours:
            verdict = "not shown: fewer than three seeds, or too many timesteps"
        aim = f"{number(target.ours)} within {count(target.timesteps)} timesteps"
        reason = f" {target.reason}" if target.reason else ""
        lines.append(f"- **Target** {aim}, worst seed: **{verdict}**.{reason}")
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
    text = (
        f"{settings['environment']['num_envs']} environments, rollout {ppo['rollout_timesteps']:,}, "
        f"minibatch {ppo['minibatch_size']:,}, {ppo['epochs']} epochs, "
        f"learning rate {schedule(ppo['learning_rate'])}, clip range {schedule(ppo['clip_range'])}, "
        f"gamma {ppo['gamma']:g}, GAE lambda {ppo['gae_lambda']:g}, "
        f"{'-'.join(map(str, network['actor_hidden']))} {network['activation']}"
    )
    text += f", initial log standard deviation {start:g}" if start else ""
    return text + (f", entropy coefficient {schedule(entropy)}" if entropy["start"] else "")


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
