"""Training, as the command line asks for it."""

from __future__ import annotations

import torch

from ppo_and_friends.cli.request import Request
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.cores import threads_per_rank
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.reporting.composite import make_reporter
from ppo_and_friends.reporting.wandb import require_wandb
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import check_identity, restore_trainer, settings_identity
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.runs.session import Session, load_checkpoint
from ppo_and_friends.vector.factory import make_vector_env


def train(
    request: Request,
    communicator: Communicator,
    place: dict[str, str] | None = None,
    *,
    clobber: bool = False,
    verbosity: int = 0,
    tensorboard: bool = True,
    wandb: str | None = None,
) -> int:
    """Train up to the experiment's timesteps, going on from what is saved. Called on every rank.

    Args:
        request: What to train, and where it is kept.
        communicator: The ranks.
        place: Told where the training is, for messages about failures.
        clobber: Remove what is saved first.
        verbosity: -1 warnings only, 0 as usual, 1 everything.
        tensorboard: Write event files.
        wandb: Project of Weights & Biases to log to; None: don't.

    Returns:
        0, or the exit status of the signal that stopped it (130 for Ctrl-C).

    Raises:
        PPOError: A mistake in the request, an environment that fails, a state that doesn't fit.
    """
    experiment, folder = request.experiment, RunFolder(request.folder)
    if wandb is not None:
        require_wandb()
    # Before the folder is made: a mistake in a friend's name or arguments leaves nothing behind.
    FriendGroup([make_friend(spec) for spec in experiment.friends])
    with folder.lock(communicator), Interrupts(communicator) as interrupts:
        if clobber:
            on_main(communicator, folder.clobber)
        checkpoint = load_checkpoint(communicator, folder)
        if checkpoint is not None:
            check_identity(checkpoint, settings_identity(experiment))
        if checkpoint is not None and checkpoint.timesteps >= experiment.num_timesteps:
            if communicator.is_main:
                print(_already_trained(request, checkpoint))
            return 0
        threads = threads_per_rank(communicator)
        layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
        envs = make_vector_env(experiment.environment, layout, threads)
        reporter = make_reporter(
            folder.path, communicator.is_main, verbosity=verbosity, tensorboard=tensorboard, wandb=wandb
        )
        try:
            trainer = build_trainer(experiment, communicator, envs, folder.path)
            # Small layers are faster on one thread than on two; convolutions are not.
            torch.set_num_threads(threads if trainer.network.convolutional else 1)
            notes = list(envs.notes)
            if checkpoint is not None:
                notes += [*checkpoint.notes, *restore_trainer(trainer, checkpoint)]
            on_main(
                communicator,
                lambda: save_experiment(folder.path, experiment, request.command_line, communicator.size),
            )
            reporter.start(
                experiment,
                communicator.size,
                None if checkpoint is None else trainer.iteration,
                notes,
                resumed_timesteps=None if checkpoint is None else trainer.timesteps,
            )
            interrupts.announce_by(reporter.interrupted)
            reporter.model(trainer.agent)
            session = Session(
                trainer,
                communicator,
                folder,
                reporter,
                interrupts,
                seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
                place=place if place is not None else {},
            )
            status = session.run()
            reporter.finish(_summary(request, session, status))
            return status
        finally:
            reporter.close()
            envs.close()


def _already_trained(request: Request, checkpoint: Checkpoint) -> str:
    steps = checkpoint.timesteps
    return (
        f"{request.experiment.name} is trained for {steps:,} timesteps already "
        f"({request.experiment.num_timesteps:,} asked).\n"
        f"Go on with --num_timesteps {2 * request.experiment.num_timesteps}, start over with --clobber, "
        f"or test it: {request.command()} --num_test_runs 5"
    )


def _summary(request: Request, session: Session, status: int) -> str:
    trainer = session.trainer
    name = request.experiment.name
    if status:
        return f"Stopped at {trainer.timesteps:,} timesteps and saved. The same command goes on from there."
    recent = trainer.episodes.recent
    score = (
        f", mean score of the last {len(recent)} episodes {sum(recent) / len(recent):.1f}" if recent else ""
    )
    return (
        f"Trained {name} for {trainer.timesteps:,} timesteps in {session.seconds:.1f} s{score}.\n"
        f"Watch it:  {request.command()} --num_test_runs 5 --render   (no display: --render_gif)\n"
        f"Saved in {request.folder}; curves: tensorboard --logdir {request.folder}"
    )
