"""A saved policy for friends that start from one."""

from __future__ import annotations

from pathlib import Path

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import SavedPolicy
from ppo_and_friends.runs.checkpoint import MANIFEST, load_latest, read_checkpoint
from ppo_and_friends.runs.packed import is_packed, unpacked


def load_saved_policy(path: Path) -> SavedPolicy:
    """A saved policy's tensors and spaces, for friends that start from it; runs no code.

    Raises:
        UsageError: No policy is saved there.
        CheckpointError: The saved files are damaged.
    """
    if is_packed(path):
        with unpacked(path) as run:
            return load_saved_policy(run)
    checkpoint = read_checkpoint(path) if (path / MANIFEST).is_file() else None
    checkpoint = checkpoint or load_latest(path / "checkpoints") or load_latest(path)
    if checkpoint is None:
        raise UsageError(f"No trained policy in {path}. Give the folder of a run, or a packed policy.")
    identity = checkpoint.state["identity"]
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("optimizer.")}
    return SavedPolicy(tensors, identity["observation_space"], identity["action_space"])
