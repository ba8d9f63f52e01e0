"""``docs/metrics.md``: every column of ``progress.csv`` and every tag in TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable

from docs.generator.docstrings import in_a_cell
from ppo_and_friends.common.metric import Metric
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS, find_friend
from ppo_and_friends.reporting.progress_csv import COLUMNS
from ppo_and_friends.reporting.run_metrics import EPISODES, FINAL, LEARNING, PROGRESS, SAMPLES
from ppo_and_friends.reporting.tensorboard import tag_of

HEAD = """# Metrics

<!-- Written from the code by `python -m docs.generator`: edit the tables in the code instead. -->

Every column of `progress.csv`, which has a row per iteration, and every tag in TensorBoard and Weights &
Biases, which show the same numbers under grouped names. Where a number is unknown, a cell is
blank and a point is left out. All numbers but times are the same on all ranks.
The unit *reward* is the environment's own.
"""
SECTIONS = {
    "Progress and time": (PROGRESS, "Written by the session (`runs/session.py`)."),
    "Training episodes": (
        EPISODES,
        "Written by the trainer (`ppo/episodes.py`): true, undiscounted returns of whole episodes, played "
        "with exploration noise, whatever friends do to the rewards that are learned from.",
    ),
    "The update": (
        LEARNING,
        "Written by the trainer (`ppo/trainer.py`, `ppo/losses.py`): means over all ranks.",
    ),
}
NOT_DRAWN = ("iteration", "timesteps", "seconds")
"""Axes in TensorBoard, not curves."""


def metrics_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, (metrics, text) in SECTIONS.items():
        parts += [f"## {title}\n", f"{text}\n", _table(metrics), ""]
    standard = ", ".join(f"`{name}`" for name in COLUMNS)
    parts += [
        f"A new file begins with {standard}, in this order; other columns follow in alphabetical order.\n"
    ]
    parts += [
        "Numbers that environments report in the info of an episode's last step, such as `is_success`, add "
        "columns and tags `info/<name>`: their means over the episodes that ended in the iteration and "
        "reported them, over all ranks. `Evaluator/info/<name>` are those of an evaluation. Environments on "
        "EnvPool and on ALE's own engine report none.\n"
    ]
    parts += [
        "## Friends\n",
        "Each friend that is part of the run adds its own; tag and column are the same.\n",
    ]
    parts += ["| column and tag | unit | meaning |", "|---|---|---|"]
    for name in (*BUILT_IN, *STARTING_POINTS, *OF_AGENTS):
        for metric in find_friend(name).reported:
            parts.append(f"| `{name}/{metric.name}` | {metric.unit} | {in_a_cell(metric.meaning)} |")
    parts += [
        "",
        "## TensorBoard only\n",
        "Histograms of a rollout of rank 0, every 20th iteration, but at most every 5 s:\n",
        _short_table(SAMPLES),
        "",
        "Scalars that are written when training ends, and compared in the HParams tab:\n",
        _short_table(FINAL),
        "",
        "Images: `video/VideoRecorder`, the episodes that `--video_every` records.",
        "",
    ]
    return "\n".join(parts)


def _table(metrics: Iterable[Metric]) -> str:
    lines = ["| column | tag | unit | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        tag = "" if metric.name in NOT_DRAWN else f"`{tag_of(metric.name)}`"
        lines.append(f"| `{metric.name}` | {tag} | {metric.unit} | {in_a_cell(metric.meaning)} |")
    return "\n".join(lines)


def _short_table(metrics: Iterable[Metric]) -> str:
    rows = (f"| `{metric.name}` | {metric.unit} | {in_a_cell(metric.meaning)} |" for metric in metrics)
    return "\n".join(["| tag | unit | meaning |", "|---|---|---|", *rows])
