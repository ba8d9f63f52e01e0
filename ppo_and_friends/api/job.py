"""A training under way: what a run holds only while it trains, and how it is made and let go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.cores import threads_per_rank
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.policy.trained_policy import policy_checkpoint
from ppo_and_friends.reporting.composite import make_reporter
from ppo_and_friends.reporting.notebook import make_console
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.wandb import require_wandb
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import check_identity, restore_trainer, settings_identity
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.runs.session import Session, load_checkpoint
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.factory import make_vector_env


@dataclass(frozen=True)
class Reporting:
    """Who is told how the run goes."""

    verbosity: int = 0
    """-1 warnings only, 0 as usual, 1 everything."""

    tensorboard: bool = True
    """Whether to write TensorBoard's event files, where there is a folder."""

    wandb: str | None = None
    """Project of Weights & Biases to log to; None: don't."""

    reporters: Sequence[SilentReporter | str] = ()
    """The user's own: objects, or classes by their names."""


@dataclass
class Job:
    """A training under way. Every rank has one."""

    session: Session
    threads: int
    """Of torch while it trains."""

    resources: ExitStack
    """What must be released: the folder's lock, environments, reporters."""

    reporting: Reporting
    notes: list[str] = field(default_factory=list)
    _tells: bool = False
    """Whether the reporters have begun."""

    def begin_reports(self) -> None:
        """Start the reporters, unless they have begun: at first, or after a pause."""
        if self._tells:
            return
        session, trainer = self.session, self.session.trainer
        folder = None if session.folder is None else session.folder.path
        session.reporter = reporter = reporter_of(self.reporting, folder, session.communicator)
        self._tells = True
        resumed = trainer.iteration > 0
        reporter.start(
            trainer.experiment,
            session.communicator.size,
            trainer.iteration if resumed else None,
            self.notes,
            resumed_timesteps=trainer.timesteps if resumed else None,
        )
        session.interrupts.announce_by(reporter.interrupted)
        reporter.model(trainer.agent)

    def end_reports(self, summary: str | None = None) -> None:
        """Close the reporters; they begin again if training goes on."""
        if self._tells and summary is not None:
            self.session.reporter.finish(summary)
        self.session.reporter.close()
        self._tells = False

    def snapshot(self) -> Checkpoint:
        """The policy as it is now: a copy, of which nothing is written."""
        return policy_checkpoint(self.session.trainer)

    def close(self) -> None:
        """Release everything. No collective."""
        self.end_reports()
        self.resources.close()


def reporter_of(reporting: Reporting, folder: Path | None, communicator: Communicator) -> SilentReporter:
    """The reporters of a run, on this rank."""
    return make_reporter(
        folder,
        communicator.is_main,
        verbosity=reporting.verbosity,
        tensorboard=reporting.tensorboard,
        wandb=reporting.wandb,
        more=[one for one in reporting.reporters if not isinstance(one, str)],
    )


def open_job(
    experiment: Experiment,
    folder: RunFolder | None,
    communicator: Communicator,
    reporting: Reporting,
    interrupts: Interrupts,
    *,
    clobber: bool,
    command_line: Sequence[str],
    place: dict[str, str],
) -> Job | Checkpoint:
    """Make everything that training needs, going on from what is saved in the folder. A collective.

    Args:
        experiment: What to train.
        folder: Where the run is kept; None: nowhere.
        communicator: The ranks.
        reporting: Who is told.
        interrupts: Entered, so that processes of environments inherit its handlers.
        clobber: Remove what is saved first.
        command_line: For the record.
        place: Told where the training is, for messages about failures.

    Returns:
        The checkpoint instead, where the saved run has all the timesteps that are asked for already.

    Raises:
        PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
    """
    if reporting.wandb is not None:
        if folder is None:
            raise UsageError("wandb needs the run's folder, in which it keeps its id: give one.")
        require_wandb()
    # Before the folder is made: a mistake in a friend's name or arguments leaves nothing behind.
    FriendGroup([make_friend(spec) for spec in experiment.friends])
    with ExitStack() as resources:
        checkpoint = None
        if folder is not None:
            resources.enter_context(folder.lock(communicator))
            if clobber:
                on_main(communicator, folder.clobber)
            checkpoint = load_checkpoint(communicator, folder)
        if checkpoint is not None:
            check_identity(checkpoint, settings_identity(experiment))
            if checkpoint.timesteps >= experiment.num_timesteps:
                return checkpoint
        threads = threads_per_rank(communicator)
        layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
        envs = make_vector_env(experiment.environment, layout, threads)
        resources.callback(envs.close)
        path = None if folder is None else folder.path
        trainer = build_trainer(experiment, communicator, envs, path)
        notes = list(envs.notes)
        if checkpoint is not None:
            notes += [*checkpoint.notes, *restore_trainer(trainer, checkpoint)]
        if path is not None:
            on_main(communicator, lambda: save_experiment(path, experiment, command_line, communicator.size))
        session = Session(
            trainer,
            communicator,
            folder,
            SilentReporter(),
            interrupts,
            seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
            place=place,
        )
        # Small layers are faster on one thread than on two; convolutions are not.
        threads = threads if trainer.network.convolutional else 1
        return Job(session, threads, resources.pop_all(), reporting, notes)


def already_trained(experiment: Experiment, checkpoint: Checkpoint) -> str:
    """What to tell a user whose run has all its timesteps."""
    return (
        f"{experiment.name} is trained for {checkpoint.timesteps:,} timesteps already "
        f"({experiment.num_timesteps:,} asked)."
    )


def say(text: str, communicator: Communicator, verbosity: int) -> None:
    """Tell the user something outside of a training."""
    if communicator.is_main:
        make_console(verbosity).message(text)
