"""``train``: an experiment in, a run out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppo_and_friends.api.run import Run
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.settings.experiment import Experiment


def train(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    communicator: Communicator | None = None,
    clobber: bool = False,
    verbosity: int | None = None,
    tensorboard: bool = True,
    wandb: str | None = None,
    reporters: Sequence[SilentReporter | str] = (),
) -> Run:
    """Train an experiment.

    With a folder, the run is trained when this returns, and saved; where the folder holds a part of it, it
    goes on from there. Without one nothing is written, and training happens as it is asked for: step by
    step by ``run.iterations()``, or to the end by ``run.finish()``, ``run.policy()`` or ``run.metrics``.
    (Step by step with a folder: ``Run(experiment, folder).iterations()``.)

    Signal handlers and torch's number of threads are changed only while it trains. Under ``mpirun`` all
    ranks call this.

    Args:
        experiment: What to train, such as ``launcher_experiment("CartPole")``.
        folder: The run's own folder; it is made if need be.
        communicator: The ranks; None: all of the MPI job, or this process alone.
        clobber: Remove what is saved in the folder first.
        verbosity: -1 shows warnings only, 0 the progress, 1 everything; None: the progress, or warnings
            only where the caller loops over the iterations.
        tensorboard: Write event files for TensorBoard into the folder.
        wandb: Project of Weights & Biases to log to; None: don't.
        reporters: Your own, objects or ``module:Class``; see docs/own_parts.md.

    Returns:
        The run.

    Raises:
        Interrupted: Ctrl-C (it is a KeyboardInterrupt). The iteration was finished and, where there is a
            folder, saved: the same call goes on. A second Ctrl-C stops at once.
        PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
    """
    run = Run(
        experiment,
        folder,
        communicator=communicator,
        clobber=clobber,
        verbosity=verbosity,
        tensorboard=tensorboard,
        wandb=wandb,
        reporters=reporters,
    )
    return run if folder is None else run.finish()
