"""Packs a trained policy into one file, as it can be uploaded to the Hugging Face hub."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo_and_friends.api.evaluation import evaluate
from ppo_and_friends.common.atomic_files import TEMPORARY
from ppo_and_friends.errors import CheckpointError, PPOError, UsageError
from ppo_and_friends.policy.find import find_policy, restored_policy
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.reporting.plots import plot_runs
from ppo_and_friends.reporting.waiting import Waiting
from ppo_and_friends.runs.checkpoint import Checkpoint, save_checkpoint
from ppo_and_friends.runs.saved_experiment import load_experiment, save_experiment
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import is_plain
from ppo_and_friends.studies.model_card import model_card

EPISODES = 20
PICTURE = "learning_curve.png"


def pack(run: Path, output: Path | None = None, *, episodes: int = EPISODES) -> Path:
    """Pack a run's newest policy: weights, settings, scores, versions, a model card and a picture.

    Args:
        run: A run's folder, its ``best/``, or a checkpoint's folder.
        output: The file to write; None: ``<environment>.zip`` in the run's folder.
        episodes: To test the policy with on the canonical environment.

    Returns:
        The file.

    Raises:
        UsageError: Nothing is saved there, the experiment isn't plain data, or it can't be written.
        CheckpointError: What is saved is damaged.
    """
    checkpoint, home = find_policy(run)
    experiment = load_experiment(home)
    if not is_plain(experiment):
        raise UsageError(
            f"{run} can't be packed: its experiment has Python objects in it, which only code could restore. "
            "Name factories and friends as module:name instead."
        )
    try:
        checkpoint, policy = restored_policy(experiment, checkpoint)
    except CheckpointError:
        raise
    except PPOError as error:  # a friend or a model that isn't installed here
        print(f"Not tested: {error}")
        policy = None
    for note in checkpoint.notes:
        print(note)
    output = home / f"{experiment.name}.zip" if output is None else output
    with tempfile.TemporaryDirectory(prefix="ppo-pack-") as made:
        folder = Path(made)
        fill(folder, experiment, checkpoint, home, _scores(policy, episodes))
        temporary = output.with_name(f"{TEMPORARY}{output.name}")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.iterdir()):
                    archive.write(path, path.name)
            temporary.replace(output)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UsageError(f"{output} can't be written: {error.strerror or error}.") from error
    return output


def fill(
    folder: Path, experiment: Experiment, checkpoint: Checkpoint, home: Path, scores: Mapping[str, Any]
) -> None:
    """Write a packed policy's files into an empty folder."""
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("optimizer.")}
    known = checkpoint.manifest
    extra: dict[str, Any] = {name: known[name] for name in ("experiment", "ranks") if name in known}
    extra["trained_with"] = known.get("versions", {})
    with tempfile.TemporaryDirectory(prefix="ppo-pack-") as place:
        saved = save_checkpoint(Path(place), checkpoint.timesteps, tensors, checkpoint.state, extra)
        for path in saved.iterdir():
            shutil.copyfile(path, folder / path.name)
    save_experiment(folder, experiment, ())
    picture = False
    if (home / "progress.csv").is_file():
        shutil.copyfile(home / "progress.csv", folder / "progress.csv")
        try:
            plot_runs([home], folder / PICTURE)
            picture = True
        except UsageError:  # no episode has ended
            picture = False
    if scores:
        (folder / "test_scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    card = model_card(experiment, checkpoint, scores, PICTURE if picture else None)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _scores(policy: TrainedPolicy | None, episodes: int) -> Mapping[str, Any]:
    """A test of the policy; empty if it can't be restored, or the environment isn't there."""
    if policy is None:
        return {}
    try:
        with Waiting() as waiting:
            return evaluate(policy, episodes, on_progress=waiting).as_dict()
    except PPOError as error:
        print(f"Not tested: {error}")
        return {}
