"""Copies the best seed's policy to where ``--pretrained`` finds it: a run's folder without Adam's moments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.learning_results import current_hash, load_evaluations
from benchmarks.runs import settings_hash
from ppo_and_friends.common.atomic_files import TEMPORARY, replace_file
from ppo_and_friends.runs.checkpoint import load_latest, save_checkpoint
from ppo_and_friends.runs.run_folder import RunFolder

MAX_BYTES = 8_000_000
"""A shipped policy is downloaded by everybody who clones the repository."""

MEASURED = "launcher environment seed settings_hash timesteps episodes mean std commit evaluation_seed"
KEPT = ("ranks", "experiment")


def best_evaluation(folder: Path) -> dict[str, Any] | None:
    """The evaluation of the best seed that has the launcher's present settings; None: there is none."""
    found = load_evaluations(folder)
    now = current_hash(folder.name)
    return max(
        (one for one in found if now is None or settings_hash(one["settings"]) == now),
        key=lambda one: one["mean"],
        default=None,
    )


def ship_best(name: str, work: Path, results: Path) -> str:
    """Copy a launcher's best policy from ``work`` to ``results/policies``; what was done, for the user."""
    best = best_evaluation(results / name)
    if best is None:
        return f"{name}: no evaluation with the launcher's present settings, nothing to ship"
    folder = RunFolder(work / f"seed-{best['seed']}" / name)
    checkpoint = load_latest(folder.checkpoints)
    digest = checkpoint and checkpoint.manifest["files"]["tensors.safetensors"]["sha256"]
    if checkpoint is None or digest != best["policy_sha256"]:
        return f"{name}: the evaluated policy of seed {best['seed']} is not in {folder.path} any more"
    tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith("optimizer.")}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > MAX_BYTES:
        return f"{name}: {size / 1e6:.1f} MB is too large to ship"
    target = results / "policies" / name
    temporary = target.with_name(f"{TEMPORARY}{name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    kept: dict[str, Any] = {key: checkpoint.manifest[key] for key in checkpoint.manifest if key in KEPT}
    save_checkpoint(temporary / "checkpoints", checkpoint.timesteps, tensors, checkpoint.state, kept)
    # The command line as the results have it, free of local paths.
    record = json.loads(folder.experiment.read_bytes()) | {"command_line": best["command_line"]}
    _write(temporary / folder.experiment.name, record)
    # What the policy was measured to reach; the first scores let a test repeat the beginning.
    score = {key: best[key] for key in MEASURED.split()} | {"first_scores": best["scores"][:10]}
    _write(temporary / "score.json", score)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return f"{name}: seed {best['seed']} shipped ({best['mean']:.1f}, {size / 1e3:.0f} kB)"


def _write(path: Path, record: dict[str, Any]) -> None:
    replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
