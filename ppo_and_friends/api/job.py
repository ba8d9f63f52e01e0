"""A job: everything that a run holds only while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ppo_and_friends.api.summary import summary
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.cores import threads_per_rank
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.policy.restored_agent import policy_checkpoint
from ppo_and_friends.reporting.catalog import find_reporter, make_reporters
from ppo_and_friends.reporting.composite import make_reporter
from ppo_and_friends.reporting.labels import NO_LABELS, Labels
from ppo_and_friends.reporting.mlflow import require_mlflow
from ppo_and_friends.reporting.notebook import make_console
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.wandb import require_wandb
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.checkpoint import Checkpoint, use_newest
from ppo_and_friends.runs.checkpoint_contents import check_identity, settings_identity
from ppo_and_friends.runs.exact_resume import check_engine
from ppo_and_friends.runs.restore import restore
from ppo_and_friends.runs.resumed_settings import Change, changes_since, refuse_another_run
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.runs.session import Session, load_checkpoint
from ppo_and_friends.runs.sizes import has_convolutions, size_notes
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.factory import check_agents, make_vector_env
from ppo_and_friends.vector.states.probe import check_environment


@dataclass(frozen=True)
class Reporting:
    """Where a run is reported to."""

    verbosity: int | None = None
    """-1: warnings only; 0: progress; 1: everything; None: decided by the method that trains."""

    tensorboard: bool = True
    """Whether to write TensorBoard event files, if there is a folder."""

    wandb: str | None = None
    """Project of Weights & Biases to log to, or ``ENTITY/PROJECT``; None: don't."""

    mlflow: str | None = None
    """Experiment of MLflow to log to; None: don't."""

    labels: Labels = NO_LABELS
    """By which trackers find the run again."""

    reporters: Sequence[SilentReporter | str] = ()
    """The user's own: objects, or names of classes."""


@dataclass(frozen=True)
class Snapshot:
    """A policy of a run, as it was between two iterations."""

    experiment: Experiment
    """Its settings."""

    checkpoint: Checkpoint
    """In memory or in a folder."""


@dataclass
class Job:
    """An open training; one per rank."""

    session: Session
    threads: int
    """Torch's number of threads during training."""

    resources: ExitStack
    """What has to be released: the folder's lock and the environments."""

    reporting: Reporting
    notes: list[str] = field(default_factory=list)
    _tells: bool = False
    """Whether the reporters are open."""

    @property
    def stopped(self) -> bool:
        """Whether a signal asked to stop; equal on all ranks."""
        return self.session.stopped

    @property
    def timesteps(self) -> int:
        """Agent steps so far, of all policies."""
        return self.session.trainer.timesteps

    def attend(self, interrupts: Interrupts) -> None:
        """Go on after a pause, reacting to signals by means of these interrupts."""
        self.session.interrupts, self.session.stopped = interrupts, False

    def advance(self) -> IterationReport | None:
        """Train one iteration; see `Session.advance`. A collective."""
        return self.session.advance()

    def save(self) -> None:
        """Save; see `Session.save`. A collective."""
        self.session.save()

    def begin_reports(self, verbosity: int) -> None:
        """Open the reporters unless they are open: at the start, or after a pause. A collective.

        Args:
            verbosity: Used if the user gave none.
        """
        if self._tells:
            return
        session, trainer = self.session, self.session.trainer
        folder = None if session.folder is None else session.folder.path
        reporting = self.reporting
        if reporting.verbosity is None:
            reporting = replace(reporting, verbosity=verbosity)
        session.reporter = reporter = reporter_of(reporting, folder, session.communicator)
        self._tells = True
        resumed = trainer.iteration > 0
        start = RunStart(
            trainer.experiment,
            session.communicator.processes,
            resumed_from=trainer.iteration if resumed else None,
            resumed_timesteps=trainer.timesteps if resumed else None,
            notes=self.notes,
        )
        reporter.start(start)
        reporter.model(trainer.agent)

    def end_reports(self) -> None:
        """Report the summary and close the reporters; they are opened again if training continues."""
        if self._tells:
            self.session.tell_notices()
            self.session.reporter.finish(summary(self.session))
        self.session.reporter.close()
        self._tells = False

    def interrupted(self, text: str) -> bool:
        """Show a message from inside a signal handler; returns whether the user will see it."""
        return self.session.reporter.interrupted(text)

    def snapshots(self) -> dict[str, Snapshot]:
        """Copies of the current policies, in memory, by name."""
        trainer = self.session.trainer
        return {trainer.experiment.name: Snapshot(trainer.experiment, policy_checkpoint(trainer))}

    def close(self) -> None:
        """Release everything. Not a collective."""
        self.session.reporter.close()
        self._tells = False
        self.resources.close()


def reporter_of(reporting: Reporting, folder: Path | None, communicator: Communicator) -> SilentReporter:
    """The reporters of a run, on this rank. A collective."""
    own: list[SilentReporter] = []
    if reporting.reporters:
        on_main(communicator, lambda: own.extend(make_reporters(reporting.reporters, folder)))
    return make_reporter(
        folder,
        communicator.is_main,
        verbosity=reporting.verbosity or 0,
        tensorboard=reporting.tensorboard,
        wandb=reporting.wandb,
        mlflow=reporting.mlflow,
        labels=reporting.labels,
        more=own,
    )


def check_trackers(reporting: Reporting, folder: RunFolder | None) -> None:
    """Refuse to begin a run that can't be tracked as asked for.

    Raises:
        UsageError: A tracker isn't installed, or there is no folder.
    """
    for name, asked, require in (
        ("wandb", reporting.wandb, require_wandb),
        ("mlflow", reporting.mlflow, require_mlflow),
    ):
        if asked is not None:
            if folder is None:
                raise UsageError(f"{name} needs a folder for the run, in which it stores its id.")
            require()


def check_names(experiment: Experiment, reporting: Reporting) -> FriendGroup:
    """The friends, made before anything is written or deleted: a mistake in a name leaves all as it was.

    Raises:
        UsageError: A friend or a reporter isn't there, or has no such argument.
    """
    friends = FriendGroup([make_friend(spec) for spec in experiment.friends])
    for reporter in reporting.reporters:
        if isinstance(reporter, str):
            find_reporter(reporter)
    return friends


def open_job(
    experiment: Experiment,
    folder: RunFolder | None,
    communicator: Communicator,
    reporting: Reporting,
    interrupts: Interrupts,
    *,
    clobber: bool,
    accept_changes: bool,
    command_line: Sequence[str],
    place: dict[str, str],
) -> Job | Checkpoint:
    """Create everything that training needs, resuming from what the folder holds. A collective.

    Args:
        experiment: What to train.
        folder: The run's folder; None: in memory only.
        communicator: The ranks.
        reporting: Where to report.
        interrupts: Already entered, so that subprocesses of environments inherit its handlers.
        clobber: Delete what is saved first.
        accept_changes: Resume even if settings that define the run have changed.
        command_line: Recorded in ``experiment.json``.
        place: Receives the current position, for error messages.

    Returns:
        The job; or the checkpoint of a saved run that already has the requested timesteps.

    Raises:
        PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
    """
    check_trackers(reporting, folder)
    check_agents(experiment.environment, experiment.agents)
    friends = check_names(experiment, reporting)
    with ExitStack() as resources:
        checkpoint, changes = None, list[Change]()
        if folder is not None:
            resources.enter_context(folder.lock(communicator))
            if clobber:
                on_main(communicator, folder.clobber)
            checkpoint = load_checkpoint(communicator, folder)
        if checkpoint is not None:
            check_identity(checkpoint, settings_identity(experiment))
            changes = changes_since(checkpoint, experiment)
            if not accept_changes:
                refuse_another_run(checkpoint.path.parent.parent, changes)
            if checkpoint.timesteps >= experiment.num_timesteps:
                return checkpoint
        # Of shards a process runs one at a time; with more threads, results would depend on their number.
        threads = 1 if experiment.deterministic_shards else threads_per_rank(communicator)
        layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
        tasked = bool(friends.calls("choose_task"))
        exact = experiment.exact_resume
        if exact:
            on_main(communicator, lambda: check_environment(experiment.environment))
        envs = make_vector_env(
            experiment.environment, layout, threads, experiment.agents, tasked=tasked, exact=exact
        )
        resources.callback(envs.close)
        if exact:
            check_engine(envs)
        path = None if folder is None else folder.path
        trainer = build_trainer(experiment, communicator, envs, path)
        notes = [*envs.notes, *size_notes(trainer)]
        if checkpoint is not None:
            assert folder is not None
            checkpoint, restored = use_newest(
                checkpoint,
                lambda each: restore(trainer, each),
                lambda path: load_checkpoint(communicator, folder, before=path),
            )
            # An older checkpoint may be of the settings before the last change.
            changes = changes_since(checkpoint, experiment)
            if not accept_changes:
                refuse_another_run(folder.path, changes)
            notes += [*checkpoint.notes, *(f"Changed: {change}" for change in changes), *restored]
        if path is not None:
            on_main(
                communicator,
                lambda: save_experiment(
                    path,
                    experiment,
                    command_line,
                    communicator.processes,
                    timesteps=0 if checkpoint is None else checkpoint.timesteps,
                    changes={change.name: (change.old, change.new) for change in changes},
                ),
            )
        session = Session(
            trainer,
            communicator,
            folder,
            SilentReporter(),
            interrupts,
            seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
            place=place,
            notices=envs.new_notices,
        )
        # Small layers are faster on one thread than on two; convolutions are not.
        threads = threads if has_convolutions(trainer.agent) else 1
        return Job(session, threads, resources.pop_all(), reporting, notes)


def say(text: str, communicator: Communicator, verbosity: int) -> None:
    """Show a message to the user while no reporter is open."""
    if communicator.is_main:
        make_console(verbosity).message(text)
