"""Finds policies in folders and restores them from their checkpoints."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ppo_and_friends.common.program import program
from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.runs.checkpoint import MANIFEST, Checkpoint, load_latest, read_checkpoint, use_newest
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.packed import is_packed, unpacked
from ppo_and_friends.runs.run_folder import policies_in
from ppo_and_friends.runs.saved_experiment import JSON_NAME, load_experiment
from ppo_and_friends.settings.experiment import Experiment


def load_single_policy(
    path: str | Path, *, trust: bool = False, device: Literal["auto", "cpu", "cuda"] = "cpu"
) -> TrainedPolicy:
    """`policy.load.load_policy` where all agents, or the only one, share a policy."""
    if is_packed(Path(path)):
        with unpacked(Path(path)) as run:
            return load_single_policy(run, device=device)
    checkpoint, home = find_policy(path)
    experiment = replace(load_experiment(home, trust), device=device)
    checkpoint, policy = restored_policy(experiment, checkpoint, older=not (Path(path) / MANIFEST).is_file())
    if checkpoint.notes:
        warnings.warn("\n".join(checkpoint.notes), stacklevel=2)
    return policy


def restored_policy(
    experiment: Experiment, checkpoint: Checkpoint, *, older: bool = True
) -> tuple[Checkpoint, TrainedPolicy]:
    """Restore a policy from a checkpoint, or from the newest one before it whose content fits.

    Args:
        experiment: The settings it was trained with.
        checkpoint: The first to try.
        older: Whether older ones of the same run may take its place; False if it was asked for itself.

    Returns:
        The checkpoint that was used, with notes about newer ones that don't fit; the policy.

    Raises:
        CheckpointError: None fits.
        IncompatibleState: The checkpoint is of other settings.
    """
    return use_newest(
        checkpoint,
        lambda each: TrainedPolicy(experiment, each),
        (lambda path: load_latest(path.parent, check_contents, before=path)) if older else None,
    )


def find_policy(path: str | Path) -> tuple[Checkpoint, Path]:
    """The checkpoint that `load_policy` loads, and the folder of its run.

    Raises:
        UsageError: No policy is saved there.
        CheckpointError: The saved files are damaged.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        checkpoint: Checkpoint | None = read_checkpoint(folder, check_contents)
    else:
        checkpoint = load_latest(folder / "checkpoints", check_contents)
        checkpoint = checkpoint or load_latest(folder, check_contents)
    if checkpoint is None and (several := policies_in(folder)):
        raise UsageError(
            f"{folder} holds several policies. Name one of them: {', '.join(map(str, several.values()))}."
        )
    if checkpoint is None:
        raise UsageError(
            f"No trained policy in {folder}.\nGive the folder of a run, such as saved_states/CartPole after "
            f"`{program()} -e CartPole`."
        )
    homes = [place for place in (folder, *folder.resolve().parents[:2]) if (place / JSON_NAME).is_file()]
    return checkpoint, homes[0] if homes else folder
