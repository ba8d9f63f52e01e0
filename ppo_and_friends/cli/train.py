"""Training, as the command line asks for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial

from ppo_and_friends.api.driver import Program
from ppo_and_friends.api.run import Interrupted, Run
from ppo_and_friends.cli.request import Request
from ppo_and_friends.common.program import program
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.requeue import check_requeue, job_id, requeue
from ppo_and_friends.reporting.labels import NO_LABELS, Labels

SHELL = 128
"""What a shell adds to a signal's number for the status of what it ended."""


def train(
    request: Request,
    communicator: Communicator,
    place: dict[str, str] | None = None,
    *,
    clobber: bool = False,
    accept_changes: bool = False,
    verbosity: int = 0,
    tensorboard: bool = True,
    wandb: str | None = None,
    mlflow: str | None = None,
    labels: Labels = NO_LABELS,
    reporters: Sequence[str] = (),
    stall_timeout: float = 0.0,
    grace: float | None = None,
    requeues: bool = False,
) -> int:
    """Train up to the experiment's timesteps, going on from what is saved. Called on every rank.

    Args:
        request: What to train, and where it is kept.
        communicator: The ranks.
        place: Told where the training is, for messages about failures.
        clobber: Remove what is saved first.
        accept_changes: Resume even if settings that define the run have changed.
        verbosity: -1 warnings only, 0 as usual, 1 everything.
        tensorboard: Write event files.
        wandb: Project of Weights & Biases to log to; None: don't.
        mlflow: Experiment of MLflow to log to; None: don't.
        labels: For these two.
        reporters: The user's own, ``module:Class``.
        stall_timeout: Seconds without any progress after which the job is ended; 0: never.
        grace: Seconds from a signal to the end of the job; None: as the scheduler says.
        requeues: Whether a Slurm job that was saved before its end is queued again.

    Returns:
        0, or the exit status of the signal that stopped it (130 for Ctrl-C).

    Raises:
        PPOError: A mistake in the request, an environment that fails, a state that doesn't fit.
    """
    job = job_id() if requeues else None
    if job is not None:
        on_main(communicator, lambda: check_requeue(job))
    run = Run(
        request.experiment,
        request.folder,
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
        program=Program(request.command_line, {} if place is None else place, grace),
    )
    status = 0
    try:
        run.finish()
    except Interrupted as stop:
        status = stop.exit_code
    if communicator.is_main and verbosity >= 0:
        print(_next(request, run, tensorboard), flush=True)
    if job is not None and run.interrupted:
        # The last thing that is done, as it ends the job; srun may end it as soon as another rank leaves.
        on_main(communicator, lambda: requeue(job, status - SHELL, partial(print, flush=True)))
    return status


def _next(request: Request, run: Run, tensorboard: bool) -> str:
    """What the user can do next, in lines that can be copied."""
    command = request.command()
    if run.interrupted:
        return "The same command resumes from there."
    if not run.new_iterations:
        # It may have been trained for more than is asked for now.
        more = round_up(2 * max(run.timesteps, request.experiment.num_timesteps))
        return (
            f"Continue:   --num_timesteps {more}\n"
            "Start over: --clobber\n"
            f"Test it:    {command} --num_test_runs 5"
        )
    folder = shlex.quote(str(request.folder))
    curves = f"tensorboard --logdir {folder}" if tensorboard else f"{program()} --plot {folder}"
    return (
        f"Watch it: {command} --num_test_runs 5 --render\n"
        "          (without a display: --render_gif)\n"
        f"Curves:   {curves}"
    )


def round_up(count: int) -> int:
    """A number of timesteps that is at least as large, of two digits and zeros: 200,982 is 210,000."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
