"""Evaluates one trained run on the canonical environment and writes its results.

Called by ``learning.py`` in a process of its own: ``evaluate_run.py FOLDER DESTINATION EPISODES``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import now
from benchmarks.runs import policy_digest, policy_folders, read_record, sessions_of, settings_hash
from ppo_and_friends import evaluate, load_policy
from ppo_and_friends.cli.request import Request
from ppo_and_friends.cli.test import load_trained
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.runs.run_folder import policies_in
from ppo_and_friends.runs.saved_experiment import load_experiment
from ppo_and_friends.settings.plain import experiment_settings

SEED = 1_000_000_007
"""Episode i of every evaluation is reset with this seed plus i; training uses lower ones (< 2^30)."""

CURVE = ("iteration", "timesteps", "seconds", "episode_return_mean", "episode_return_mean_100")

SUMMED = ("timesteps", "seconds", "time_evaluation")
"""Columns that count all policies of a run together."""

AGENT = "episode_return/"
"""Beginning of the names of agents' returns."""

IF_THERE = ("Evaluator/score",)
"""Columns that a curve has as well, if the run has them."""


def thin(rows: list[dict[str, str]], limit: int = 500) -> list[dict[str, str]]:
    """At most ``limit`` rows at even distances, the last one always among them."""
    places = np.linspace(0, len(rows) - 1, min(limit, len(rows))).round()
    return [rows[int(place)] for place in places]


def rows_of(folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a run's progress.

    Of several policies: the first one's, with the timesteps and seconds of all of them.
    """
    (names, rows), *others = [read_rows(each.progress) for each in policy_folders(folder)]
    for _, more in others:
        for row, same in zip(rows, more, strict=False):
            row |= {
                name: f"{float(row.get(name) or 0.0) + float(same.get(name) or 0.0):.10g}" for name in SUMMED
            }
    return names, rows


def write_curve(folder: Path, path: Path) -> list[dict[str, str]]:
    """Write the thinned curve, without iterations of which no score is known; returns all rows."""
    names, rows = rows_of(folder)
    columns = (*CURVE, *(name for name in IF_THERE if name in names))
    known = [row for row in rows if any(row.get(name) for name in ("episode_return_mean", *IF_THERE))]
    lines = [columns, *([row.get(name, "") for name in columns] for row in thin(known))]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, "".join(",".join(line) + "\n" for line in lines).encode())
    return rows


def training_seconds(rows: list[dict[str, str]]) -> float | None:
    """Seconds of a run without its evaluations; None: it has no rows."""
    if not rows:
        return None
    return float(rows[-1]["seconds"]) - sum(float(row.get("time_evaluation") or 0.0) for row in rows)


def evaluate_run(folder: Path, destination: Path, episodes: int) -> dict[str, Any]:
    """Evaluate what ``main.py`` left in ``folder``; write ``curve.csv`` and ``evaluation.json``."""
    if policies_in(folder):
        policy, digest = load_policy(folder), policy_digest(folder)
    else:
        policy, checkpoint = load_trained(Request(load_experiment(folder), folder))
        digest = checkpoint.manifest["files"]["tensors.safetensors"]["sha256"]
    outcome, experiment = evaluate(policy, episodes, seed=SEED), load_experiment(folder)
    settings = experiment_settings(experiment)
    agents = {
        name.removeprefix(AGENT): mean for name, mean in outcome.infos.items() if name.startswith(AGENT)
    }
    rows = write_curve(folder, destination / "curve.csv")
    record, sessions = read_record(folder / "experiment.json"), sessions_of(folder)
    last = sessions[-1] if sessions else {"commit": None, "dirty": None}
    result = {
        "launcher": experiment.name,
        "environment": experiment.environment.id,
        "seed": experiment.random_seed,
        "settings_hash": settings_hash(settings),
        "timesteps": policy.timesteps,
        "training_seconds": training_seconds(rows),
        "episodes": len(outcome.episodes),
        **{name: getattr(outcome, name) for name in ("mean", "std", "min", "max")},
        **({"agents": agents} if agents else {}),
        "deterministic": outcome.deterministic,
        "evaluation_seed": outcome.seed,
        "commit": last["commit"],
        "dirty": last["dirty"],
        "sessions": sessions,
        "command_line": _without_paths(record.get("command_line", [])),
        "versions": record.get("versions", {}),
        "policy_sha256": digest,
        "evaluated_at": now(),
        "scores": [one.episode_return for one in outcome.episodes],
        "lengths": [one.length for one in outcome.episodes],
        "settings": settings,
    }
    replace_file(destination / "evaluation.json", _compact(result).encode())
    return result


def _without_paths(arguments: list[str]) -> list[str]:
    """The command line without the place where the run was kept."""
    place = ("--state_path", "--state-path")
    pairs = zip([None, *arguments], arguments, strict=False)
    return [one for before, one in pairs if before not in place and one not in place]


def _compact(result: dict[str, Any]) -> str:
    """JSON with one line a key, and long lists on one line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in result.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    result = evaluate_run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print(f"{result['launcher']} seed {result['seed']}: {result['mean']:.1f} +- {result['std']:.1f}")
