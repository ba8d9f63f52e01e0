"""What the learning benchmark left in ``results/``: summaries over several seeds, and policies to ship."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write_json
from benchmarks.runs import settings_hash
from benchmarks.targets import TARGETS, Target
from ppo_and_friends.common.atomic_files import TEMPORARY
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_experiment import sealed
from ppo_and_friends.settings.migration import migrated
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.settings.registry import resolve

Array = NDArray[np.float64]
Record = dict[str, Any]

MAX_BYTES = 8_000_000
"""A shipped policy is downloaded by everybody who clones the repository."""

MEASURED = "launcher environment seed settings_hash timesteps episodes mean std commit evaluation_seed"
KEPT = ("ranks", "experiment")


@dataclass(frozen=True)
class LauncherResults:
    """The evaluations of a launcher."""

    name: str
    evaluations: tuple[Record, ...]
    """One a seed, all of the same settings (under today's names), ordered by seed."""
    failures: tuple[Record, ...] = ()
    others: int = 0
    """Evaluations of other settings, which are left out."""
    current: bool = True
    """Whether the launcher still has the settings of these evaluations."""

    @property
    def means(self) -> list[float]:
        """Mean score of each seed."""
        return [one["mean"] for one in self.evaluations]

    @property
    def of_several_agents(self) -> bool:
        """Whether the scores are means over agents."""
        return all("agents" in one for one in self.evaluations)

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
    names = {path.name for path in results.iterdir() if any(path.glob("seed-*/*.json"))}
    ordered = [name for name in TARGETS if name in names] + sorted(names - TARGETS.keys())
    return [_load_launcher(results / name) for name in ordered]


def _load_launcher(folder: Path) -> LauncherResults:
    evaluations, failures = load_evaluations(folder), _by_seed(folder, "failure.json")
    newest = max(evaluations, key=lambda one: one["evaluated_at"], default=None)
    shared = settings_hash(newest["settings"]) if newest else None
    same = tuple(one for one in evaluations if settings_hash(one["settings"]) == shared)
    current = newest is None or current_hash(folder.name) in (None, shared)
    return LauncherResults(folder.name, same, tuple(failures), len(evaluations) - len(same), current)


def load_evaluations(folder: Path) -> list[Record]:
    """The evaluations of a launcher's seeds, by seed, with their settings under today's names."""
    found = _by_seed(folder, "evaluation.json")
    return [one | {"settings": migrated(one["settings"])} for one in found]


def _by_seed(folder: Path, name: str) -> list[Record]:
    found = [json.loads(path.read_bytes()) for path in folder.glob(f"seed-*/{name}")]
    return sorted(found, key=lambda one: int(one["seed"]))


def current_hash(name: str) -> str | None:
    """Hash of the launcher's settings as they are now; None: there is no such launcher."""
    try:
        return settings_hash(experiment_settings(resolve(name)))
    except UsageError:
        return None


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half (arXiv:2108.13264) of the last axis.

    Each value counts as four quarters, so that what is cut at either end is whole however few values there
    are: of three, the outer two count a quarter each.
    """
    quarters = np.sort(np.repeat(np.asarray(values, dtype=np.float64), 4, axis=-1), axis=-1)
    n = quarters.shape[-1] // 4
    return np.asarray(quarters[..., n:-n].mean(axis=-1))


def bootstrap_interval(
    values: Array, *, confidence: float = 0.95, resamples: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean of the runs' scores, resampling whole runs."""
    values = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(interquartile_mean(values[picks]), [tail, 100.0 - tail])
    return float(low), float(high)


def ship_best(name: str, work: Path, results: Path) -> str:
    """Copy a launcher's best policy from ``work`` to ``results/policies``; what was done, for the user."""
    from ppo_and_friends.runs.checkpoint import load_latest, save_checkpoint  # late: they load torch

    now, found = current_hash(name), load_evaluations(results / name)
    current = [one for one in found if now is None or settings_hash(one["settings"]) == now]
    best = max(current, key=lambda one: one["mean"], default=None)
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
    kept: dict[str, Any] = {key: checkpoint.manifest[key] for key in checkpoint.manifest if key in KEPT}
    save_checkpoint(temporary / "checkpoints", checkpoint.timesteps, tensors, checkpoint.state, kept)
    # The command line as the results have it, free of local paths.
    record = json.loads(folder.experiment.read_bytes()) | {"command_line": best["command_line"]}
    write_json(temporary / folder.experiment.name, sealed(record))
    # What the policy was measured to reach; the first scores let a test repeat the beginning.
    score = {key: best[key] for key in MEASURED.split()} | {"first_scores": best["scores"][:10]}
    write_json(temporary / "score.json", score)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return f"{name}: seed {best['seed']} shipped ({best['mean']:.1f}, {size / 1e3:.0f} kB)"
