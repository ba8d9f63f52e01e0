"""The section of each environment in ``docs/environments.md``: target, result, settings, curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import LauncherResults, Record, count, insert, number
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.settings.migration import migrated
from ppo_and_friends.settings.schedules import schedule_text


def markers(name: str) -> tuple[str, str]:
    """Between which a launcher's block stands."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def write_sections(launchers: Sequence[LauncherResults], page: Path, results: Path) -> None:
    """Put each launcher's block between its markers, where the page has them, and draw its curve.

    Args:
        launchers: With their results.
        page: Of Markdown.
        results: Gets ``curves/<launcher>.png``.
    """
    from benchmarks.figures import draw_curves

    old = text = page.read_text()
    for one in launchers:
        start, end = markers(one.name)
        if start in text and one.evaluations:
            text = insert(text, block(one), start, end)
            (results / "curves").mkdir(exist_ok=True)
            draw_curves([one], results, results / "curves" / f"{one.name}.png")
    if text != old:
        replace_file(page, text.encode())


def block(one: LauncherResults) -> str:
    """A launcher's target, result, settings and curve, as Markdown."""
    settings = migrated(one.evaluations[0]["settings"])
    target, means = one.target, one.means
    lines = []
    if target is not None:
        verdict = "reached" if one.reached else f"missed by {number(target.ours - min(means))}"
        if not one.reached and min(means) >= target.ours:
            verdict = "not shown: fewer than three seeds, or too many timesteps"
        lines.append(
            f"- **Target** {number(target.ours)} within {count(target.timesteps)} timesteps, worst seed: "
            f"**{verdict}**."
        )
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
    ppo, network, environments = settings["ppo"], settings["network"], settings["environment"]
    widths = "-".join(map(str, network["actor_hidden"]))
    start = float(network["log_std_init"])
    parts = [
        f"{environments['num_envs']} environments",
        f"rollout {ppo['rollout_timesteps']:,}",
        f"minibatch {ppo['minibatch_size']:,}",
        f"{ppo['epochs']} epochs",
        f"learning rate {schedule(ppo['learning_rate'])}",
        f"clip range {schedule(ppo['clip_range'])}",
        f"gamma {ppo['gamma']:g}",
        f"GAE lambda {ppo['gae_lambda']:g}",
        f"{widths} {network['activation']}",
        *([f"initial log standard deviation {start:g}"] if start else []),
        *(
            [f"entropy coefficient {schedule(ppo['entropy_coefficient'])}"]
            if ppo["entropy_coefficient"]["start"]
            else []
        ),
    ]
    return ", ".join(parts)


def schedule(value: Record) -> str:
    """``3e-4``, ``1e-3 to 0``, or the text of the command line for any other shape."""
    start, end = value["start"], value["end"]
    if value.get("shape", "linear") != "linear":
        return str(schedule_text(value))
    return f"{start:g}" if end is None else f"{start:g} to {end:g}"


def friend_text(spec: Record) -> str:
    """``ICM`` or ``ICM(scale=0.1)``."""
    texts = {
        key: schedule_text(value) if isinstance(value, dict) and "start" in value else value
        for key, value in spec["arguments"].items()
    }
    arguments = ", ".join(f"{key}={value}" for key, value in texts.items())
    return f"{spec['name']}({arguments})" if arguments else str(spec["name"])
