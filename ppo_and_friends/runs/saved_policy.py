"""A saved policy for friends that start from one."""

from __future__ import annotations

import warnings
from pathlib import Path

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.context import SavedPolicy
from ppo_and_friends.runs.checkpoint import MANIFEST, Checkpoint, load_latest, read_checkpoint
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.packed import is_packed, unpacked


def newest_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint's folder, or the newest intact one of a run; notes about others are warnings.

    Raises:
        UsageError: No policy is saved there.
        CheckpointError: The saved files are damaged.
    """
    checkpoint = read_checkpoint(path, check_contents) if (path / MANIFEST).is_file() else None
    for folder in (path / "checkpoints", path):
        checkpoint = checkpoint or load_latest(folder, check_contents)
    if checkpoint is None:
        raise UsageError(f"No trained policy in {path}. Give the folder of a run, or a packed policy.")
    if checkpoint.notes:
        warnings.warn("\n".join(checkpoint.notes), stacklevel=2)
    return checkpoint


def load_saved_policy(path: Path) -> SavedPolicy:
    """A saved policy's tensors and spaces, for friends that start from it; runs no code.

    Raises:
        UsageError: No policy is saved there.
        CheckpointError: The saved files are damaged.
    """
    if is_packed(path):
        with unpacked(path) as run:
            return load_saved_policy(run)
    checkpoint = newest_checkpoint(path)
    identity = checkpoint.state["identity"]
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("optimizer.")}
    return SavedPolicy(tensors, identity["observation_space"], identity["action_space"])
