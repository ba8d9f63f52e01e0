"""The two things the command line does: train a policy, test one."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ppo_and_friends.build import build_trainer
from ppo_and_friends.checkpoint import Checkpoint, load_latest
from ppo_and_friends.communicator import Communicator
from ppo_and_friends.cores import threads_per_rank
from ppo_and_friends.errors import UsageError
from ppo_and_friends.experiment import Experiment
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.interrupts import Interrupts
from ppo_and_friends.options import Choice
from ppo_and_friends.policy import Policy
from ppo_and_friends.randomness import Purpose, Randomness
from ppo_and_friends.reporting.reporter import make_reporter
from ppo_and_friends.reporting.wandb import require_wandb
from ppo_and_friends.run_folder import RunFolder
from ppo_and_friends.saved_experiment import load_experiment, save_experiment
from ppo_and_friends.saved_state import check_identity, identity, restore_trainer, settings_identity
from ppo_and_friends.session import Session, load_checkpoint, on_main
from ppo_and_friends.trained_policy import restored_agent
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import divide


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    experiment: Experiment
    """The launcher's settings with the command line's changes."""

    folder: Path
    """The run's folder."""

    command_line: tuple[str, ...] = ()
    """For the record."""

    name: str = ""
    """What the user called the environment; empty: the launcher's name."""

    change: Callable[[Experiment], Experiment] = lambda experiment: experiment
    """Makes the command line's changes; a test makes them to the saved settings."""

    trained: Path | None = None
    """Where the policy to test is, if it isn't the run's own."""


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


def load_trained(request: Request, trust: bool = False) -> tuple[Experiment, Policy, Checkpoint]:
    """A saved policy with the settings it was trained with.

    Args:
        request: Whose folder to look in. The settings are the saved ones, with its changes.
        trust: Whether saved code may be run, for an experiment that isn't plain data.

    Raises:
        UsageError: Nothing is saved there; says how to train one.
        IncompatibleState: What is saved is of another environment or network.
        CheckpointError: What is saved is damaged.
    """
    folder = RunFolder(request.trained or request.folder)
    checkpoint = load_latest(folder.checkpoints)
    if checkpoint is None:
        raise UsageError(f"No trained policy in {folder.path}. Train one with: {_command(request)}")
    experiment = request.change(load_experiment(folder.path, trust))
    # First, since it may be that these settings' environment can't even be made.
    check_identity(checkpoint, settings_identity(experiment))
    from ppo_and_friends.vector.canonical import make_canonical_env
    from ppo_and_friends.vector.spaces import encoded_space

    env = make_canonical_env(experiment.environment)
    try:
        observation_space = encoded_space(env.observation_space)
        action_space = env.action_space
    finally:
        env.close()
    check_identity(checkpoint, identity(experiment, observation_space, action_space))
    return experiment, restored_agent(experiment, checkpoint).policy(), checkpoint


def test(
    request: Request,
    communicator: Communicator,
    *,
    episodes: int,
    deterministic: bool = True,
    window: bool = False,
    video: Path | None = None,
    video_episode: Choice = "best",
    trust: bool = False,
) -> int:
    """Run whole episodes of the saved policy on the canonical environment; print and write scores.

    Args:
        request: What to test, and where it is kept.
        communicator: Rank 0 tests, the others wait.
        episodes: How many.
        deterministic: The most probable actions; False: drawn ones.
        window: Show it.
        video: Where to record; None: nowhere.
        video_episode: Which episode, by its score, or all of them.
        trust: Whether saved code may be run.

    Returns:
        0.

    Raises:
        PPOError: Nothing is saved, it doesn't fit, no display, an environment that fails.
    """
    on_main(
        communicator, lambda: _test(request, episodes, deterministic, window, video, video_episode, trust)
    )
    return 0


def _test(
    request: Request,
    episodes: int,
    deterministic: bool,
    window: bool,
    video: Path | None,
    video_episode: Choice,
    trust: bool,
) -> None:
    from ppo_and_friends.evaluation import evaluate
    from ppo_and_friends.rendering import prepare_offscreen, require_display

    if window:
        require_display()
    elif video is not None:
        prepare_offscreen(request.experiment.environment)
    experiment, policy, checkpoint = load_trained(request, trust)
    for note in checkpoint.notes:
        print(note, file=sys.stderr)
    evaluation = evaluate(
        policy,
        experiment.environment,
        episodes=episodes,
        seed=Randomness(request.experiment.random_seed).integer(Purpose.EVALUATION),
        deterministic=deterministic,
        render="human" if window else "record" if video is not None else None,
        timesteps=checkpoint.timesteps,
        video_path=video,
        video=video_episode,
    )
    evaluation.print_table()
    folder = RunFolder(request.folder)
    try:
        evaluation.write(folder.test_scores)
    except OSError as error:
        warnings.warn(f"{folder.test_scores} can't be written: {error}", stacklevel=1)
    else:
        print(f"Scores written to {folder.test_scores}")
    if video is not None:
        print(f"Video written to {video}")


def _command(request: Request) -> str:
    """The command that names this run again."""
    parts = [f"python main.py -e {request.name or request.experiment.name}"]
    if request.folder.parent != Path("saved_states"):
        parts.append(f"--state_path {shlex.quote(str(request.folder.parent))}")
    return " ".join(parts)


def _already_trained(request: Request, checkpoint: Checkpoint) -> str:
    steps = checkpoint.timesteps
    return (
        f"{request.experiment.name} is trained for {steps:,} timesteps already "
        f"({request.experiment.num_timesteps:,} asked).\n"
        f"Go on with --num_timesteps {2 * request.experiment.num_timesteps}, start over with --clobber, "
        f"or test it: {_command(request)} --num_test_runs 5"
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
        f"Watch it:  {_command(request)} --num_test_runs 5 --render   (no display: --render_gif)\n"
        f"Saved in {request.folder}; curves: tensorboard --logdir {request.folder}"
    )
