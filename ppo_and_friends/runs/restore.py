"""Restoring a run: what was learned, and, if it resumes exactly, the states of its environments."""

from __future__ import annotations

from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import restore_trainer
from ppo_and_friends.runs.exact_resume import load_environments, restore_environments


def restore(trainer: Trainer, checkpoint: Checkpoint) -> list[str]:
    """Restore a trainer from a checkpoint. A collective.

    Args:
        trainer: The trainer, before its first iteration.
        checkpoint: The checkpoint, verified.

    Returns:
        Notes for the user about state that could not be restored.

    Raises:
        CheckpointError: The checkpoint's content can't be this run's.
        IncompatibleState: The checkpoint is not compatible with the trainer.
    """
    if not trainer.experiment.exact_resume:
        return restore_trainer(trainer, checkpoint)
    environments = load_environments(trainer.communicator, checkpoint)
    notes = restore_trainer(trainer, checkpoint)
    return [*notes, *restore_environments(trainer, checkpoint, environments)]
