"""Evaluates one trained run on the canonical environment and writes its results.

Called by ``learning.py`` in a process of its own: ``evaluate_run.py FOLDER DESTINATION EPISODES``.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runs import RECORD, settings_hash
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.reporting.progress_csv import read_rows

SEED = 1_000_000_007
"""Episode i of every evaluation begins with this plus i, above all seeds that training uses (< 2^30)."""

CURVE = ("iteration", "timesteps", "seconds", "score_mean", "score_mean_100")
MAX_ROWS = 500


def thin(rows: list[dict[str, str]], limit: int = MAX_ROWS) -> list[dict[str, str]]:
    """At most ``limit`` rows at even distances, the last one always among them."""
    if len(rows) <= limit:
        return rows
    return [rows[round(i * (len(rows) - 1) / (limit - 1))] for i in range(limit)]


def write_curve(progress: Path, path: Path) -> list[dict[str, str]]:
    """Write the thinned curve; rows of iterations in which no episode ended are left out.

    Returns:
        All rows of ``progress``.
    """
    _, rows = read_rows(progress)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CURVE, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(thin([row for row in rows if row.get("score_mean")]))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, buffer.getvalue().encode())
    return rows


def evaluate_run(folder: Path, destination: Path, episodes: int) -> dict[str, Any]:
    """Evaluate what is saved in ``folder``, and write ``curve.csv`` and ``evaluation.json``.

    Args:
        folder: A run's folder, as ``main.py`` leaves it.
        destination: Where to write.
        episodes: Whole episodes, most probable actions.

    Raises:
        PPOError: Nothing usable is saved, or the environment fails.
    """
    from ppo_and_friends import evaluate
    from ppo_and_friends.cli.request import Request
    from ppo_and_friends.cli.test import load_trained
    from ppo_and_friends.runs.saved_experiment import load_experiment
    from ppo_and_friends.settings.plain import experiment_settings

    policy, checkpoint = load_trained(Request(load_experiment(folder), folder))
    outcome = evaluate(policy, episodes, seed=SEED)
    experiment = policy.experiment
    settings = experiment_settings(experiment)
    rows = write_curve(folder / "progress.csv", destination / "curve.csv")
    record = json.loads((folder / "experiment.json").read_bytes())
    try:
        sessions = json.loads((folder / RECORD).read_bytes())["sessions"]
    except (OSError, ValueError, KeyError):
        sessions = []
    last = sessions[-1] if sessions else {"commit": None, "dirty": None}
    result = {
        "launcher": experiment.name,
        "environment": experiment.environment.id,
        "seed": experiment.random_seed,
        "settings_hash": settings_hash(settings),
        "timesteps": checkpoint.timesteps,
        "training_seconds": float(rows[-1]["seconds"]) if rows else None,
        "episodes": len(outcome.episodes),
        "mean": outcome.mean,
        "std": outcome.std,
        "min": outcome.min,
        "max": outcome.max,
        "deterministic": outcome.deterministic,
        "evaluation_seed": outcome.seed,
        "commit": last["commit"],
        "dirty": last["dirty"],
        "sessions": sessions,
        "command_line": _without_paths(record.get("command_line", [])),
        "versions": record.get("versions", {}),
        "policy_sha256": checkpoint.manifest["files"]["tensors.safetensors"]["sha256"],
        "evaluated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scores": [one.score for one in outcome.episodes],
        "lengths": [one.length for one in outcome.episodes],
        "settings": settings,
    }
    replace_file(destination / "evaluation.json", _compact(result).encode())
    return result


def _without_paths(arguments: list[str]) -> list[str]:
    """The command line without the place where the run was kept."""
    after = [None, *arguments]
    return [
        one
        for before, one in zip(after, arguments, strict=False)
        if before not in ("--state_path", "--state-path") and one not in ("--state_path", "--state-path")
    ]


def _compact(result: dict[str, Any]) -> str:
    """JSON with one line a key, and long lists on one line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in result.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Evaluate; a mistake is one line and status 1."""
    from ppo_and_friends.errors import PPOError

    folder, destination, episodes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    try:
        result = evaluate_run(folder, destination, episodes)
    except PPOError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    print(f"{result['launcher']} seed {result['seed']}: {result['mean']:.1f} +- {result['std']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
