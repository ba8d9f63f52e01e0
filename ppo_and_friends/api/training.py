"""``train``: trains an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppo_and_friends.api.run import Run
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.reporting.labels import NO_LABELS, Labels
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.settings.experiment import Experiment


def train(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    communicator: Communicator | None = None,
    clobber: bool = False,
    accept_changes: bool = False,
    verbosity: int | None = None,
    tensorboard: bool = True,
    wandb: str | None = None,
    mlflow: str | None = None,
    labels: Labels = NO_LABELS,
    reporters: Sequence[SilentReporter | str] = (),
    stall_timeout: float = 0.0,
) -> Run:
    """Train an experiment.

    With a folder, the run is trained and saved when this returns; if the folder holds part of the run,
    training resumes from there. Without a folder, nothing is written, and training happens on demand: step
    by step with ``run.iterations()``, or to the end with ``run.finish()``, ``run.policy()`` or
    ``run.metrics``. (To train step by step with a folder: ``Run(experiment, folder).iterations()``.)

    Signal handlers and torch's number of threads are changed only during training. Under ``mpirun`` all
    ranks call this.

    Args:
        experiment: What to train, such as ``launcher_experiment("CartPole")``.
        folder: The run's own folder, created if necessary; None: in memory only.
        communicator: The ranks; None: all ranks of the MPI job, or this process alone.
        clobber: Delete what is saved in the folder first.
        accept_changes: Resume the run in the folder even if settings that define it have changed, such as the
            seed or the clip range. Otherwise that is refused.
        verbosity: -1: warnings only; 0: progress; 1: everything; None: progress, but only warnings inside
            ``iterations()``.
        tensorboard: Write TensorBoard event files into the folder.
        wandb: Project of Weights & Biases to log to, or ``ENTITY/PROJECT``; None: don't.
        mlflow: Experiment of MLflow to log to; None: don't.
        labels: Group, tags and notes by which these two find the run again.
        reporters: Your own, as objects or ``module:Class``; see docs/own_parts.md.
        stall_timeout: Seconds without any progress (a step, a minibatch, a checkpoint) after which this
            process, and all others of an MPI job, are ended with a report of where they stand; 0: never. For
            jobs that nobody watches: an environment that never returns can't be ended in another way.

    Returns:
        The run.

    Raises:
        Interrupted: Ctrl-C (a subclass of KeyboardInterrupt). The iteration was finished and, if there is
            a folder, saved: the same call resumes. A second Ctrl-C stops at once, without saving.
        PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
    """
    run = Run(
        experiment,
        folder,
        communicator=communicator,
        clobber=clobber,
        accept_changes=accept_changes,
        verbosity=verbosity,
        tensorboard=tensorboard,
        wandb=wandb,
        mlflow=mlflow,
        labels=labels,
        reporters=reporters,
        stall_timeout=stall_timeout,
    )
    return run if folder is None else run.finish()
