"""A run: trains when it is asked to, and knows what came of it."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch

from ppo_and_friends.api.job import Job, Reporting, already_trained, open_job, say
from ppo_and_friends.api.metrics import MetricsTable, Table, row_of
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.launch import alike, make_communicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.reporting.curves import load_run
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest
from ppo_and_friends.runs.checkpoint_contents import check_identity, settings_identity
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.settings.experiment import Experiment


class Interrupted(KeyboardInterrupt):
    """Training was interrupted. It is saved, where there is a folder.

    Attributes:
        run: The run; it can be gone on with.
        exit_code: The shell's status for the signal: 130 for Ctrl-C.
    """

    def __init__(self, run: Run, exit_code: int) -> None:
        """Say where it stopped."""
        super().__init__(f"{run.experiment.name} stopped at {run.timesteps:,} timesteps")
        self.run, self.exit_code = run, exit_code


@dataclass(frozen=True)
class Program:
    """What a program that exists for one training wants otherwise than a notebook."""

    command_line: tuple[str, ...] = ()
    """For the record."""

    place: dict[str, str] = field(default_factory=dict)
    """Told where the training is; the program itself says so when it fails."""


_paused: weakref.WeakValueDictionary[Path, Run] = weakref.WeakValueDictionary()
"""Runs between two iterations of somebody's loop, by folder. A notebook keeps the traceback of the last
error, and with it a loop that an error ended: such a run would hold its folder until the kernel ends."""


class Run:
    """An experiment's training. Nothing happens before it is asked for.

    `train` makes one, and trains at once where there is a folder. Under ``mpirun`` every rank has the
    run, and every rank calls the same methods.

    Attributes:
        experiment: What is trained.
        folder: Where it is kept; None: in memory alone.
        interrupted: Whether it was stopped by Ctrl-C, and not gone on with since.
        new_iterations: Iterations that this object trained.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: str | Path | None = None,
        *,
        communicator: Communicator | None = None,
        clobber: bool = False,
        verbosity: int | None = None,
        tensorboard: bool = True,
        wandb: str | None = None,
        reporters: Sequence[SilentReporter | str] = (),
        program: Program | None = None,
    ) -> None:
        """Say what to train; see `train` for the arguments.

        Args:
            experiment: What to train.
            folder: Where it is kept; None: in memory alone.
            communicator: The ranks.
            clobber: Start over.
            verbosity: What is shown.
            tensorboard: Whether to write TensorBoard's event files.
            wandb: Project of Weights & Biases.
            reporters: Your own.
            program: For the command line, which ends with its training.
        """
        self.experiment = experiment
        self.folder = None if folder is None else Path(folder)
        self.interrupted = False
        self.new_iterations = 0
        self._communicator = communicator
        self._clobber = clobber
        self._verbosity = verbosity
        self._reporting = Reporting(tensorboard=tensorboard, wandb=wandb, reporters=tuple(reporters))
        self._program = program
        self._table = MetricsTable()
        self._interrupts: Interrupts | None = None
        self._job: Job | None = None
        self._thread = 0
        self._last: Checkpoint | None = None
        """What a run that is over ended with, if no folder has it."""

        self._closed = False
        self._timesteps: int | None = None
        """Known since the job was closed, or the folder was looked into."""

    def iterations(self) -> Iterator[dict[str, float]]:
        """Train one iteration at a time, up to the experiment's timesteps.

        Leave the loop whenever you like. With a folder, the run is then saved and the folder released;
        without one it stays in memory. A later call goes on from there. Under ``mpirun`` leave the loop
        on all ranks alike.

        Yields:
            The iteration's numbers by name, as in ``metrics``; equal on all ranks but for the times.

        Raises:
            Interrupted: Ctrl-C; the iteration was finished, and saved where there is a folder.
            PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
        """
        while (row := self._advance(quiet=True)) is not None:
            self._thread = threading.get_ident()
            if self.folder is not None:
                _paused[self.folder.resolve()] = self
            try:
                yield row
            except GeneratorExit:
                if not sys.is_finalizing():
                    self._pause()
                raise

    def finish(self) -> Self:
        """Train to the end: the experiment's timesteps, or where a friend ends it.

        Returns:
            This run.

        Raises:
            Interrupted: Ctrl-C; the iteration was finished, and saved where there is a folder.
            PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
        """
        with self._attended():
            while self._advance() is not None:
                pass
        return self

    @property
    def metrics(self) -> Table:
        """The numbers of all iterations so far: a column [iterations] by name, NaN where unknown.

        The columns are those of ``progress.csv``, from which they are read where there is a folder.
        ``pandas.DataFrame(run.metrics)`` is a table of them. A run that was not begun trains to its end.
        """
        if self.folder is None:
            self._begin()
            return self._table.columns()
        self._begin()
        try:
            return load_run(self.folder).columns
        except UsageError:  # not one iteration
            return self._table.columns()

    def policy(self, *, device: Literal["auto", "cpu", "cuda"] = "cpu") -> TrainedPolicy:
        """The policy as it is now; a run that was not begun trains to its end.

        Args:
            device: Where its network shall live.

        Returns:
            A copy, which further training leaves alone.
        """
        self._begin()
        checkpoint = self._checkpoint()
        if checkpoint is None:
            raise UsageError(f"{self!r} has no policy: not one iteration is trained.")
        check_identity(checkpoint, settings_identity(self.experiment))
        return TrainedPolicy(replace(self.experiment, device=device), checkpoint)

    @property
    def timesteps(self) -> int:
        """Agent steps so far, over all ranks and resumes."""
        if self._job is not None:
            return self._job.session.trainer.timesteps
        if self._timesteps is None:
            checkpoint = self._checkpoint()
            self._timesteps = 0 if checkpoint is None else checkpoint.timesteps
        return self._timesteps

    def close(self) -> None:
        """Save where there is a folder, and release environments, files and the folder.

        Without a folder, ``policy()`` and ``metrics`` stay, but training can't go on.
        """
        if self._job is not None:
            self._pause()
            self._release()
        self._closed = self.folder is None

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name, progress and folder."""
        where = "in memory" if self.folder is None else f"in {self.folder}"
        done = f"{self.timesteps:,} of {self.experiment.num_timesteps:,} timesteps"
        return f"<Run of {self.experiment.name}, {done}, {where}>"

    def _begin(self) -> None:
        """Train to the end, if nothing was trained yet."""
        if self._job is None and not self._closed and self._checkpoint() is None:
            self.finish()

    def _checkpoint(self) -> Checkpoint | None:
        """The newest state of the policy, in memory or in the folder."""
        if self._job is not None and self._job.session.trainer.iteration:
            return self._job.snapshot()
        if self.folder is not None:
            return load_latest(RunFolder(self.folder).checkpoints)
        return self._last

    @contextmanager
    def _attended(self) -> Iterator[None]:
        """Signals, threads and failures are taken care of inside, and are as they were outside."""
        if self._interrupts is not None:
            yield
            return
        if self._communicator is None:
            self._communicator = make_communicator()
        communicator, threads, this = self._communicator, torch.get_num_threads(), weakref.ref(self)

        def shown(text: str) -> bool:
            run = this()
            return run is not None and run._job is not None and run._job.session.reporter.interrupted(text)

        interrupts = Interrupts(communicator, ends_process=self._program is not None)
        interrupts.announce_by(shown)
        try:
            with alike(communicator, self._program is None), interrupts:
                self._interrupts = interrupts
                yield
        except Interrupted:
            raise
        except BaseException:
            self._release()  # it may be in the middle of an iteration
            self._closed = self.folder is None
            raise
        finally:
            self._interrupts = None
            torch.set_num_threads(threads)

    def _advance(self, quiet: bool = False) -> dict[str, float] | None:
        """One iteration; None once training is over. Somebody who loops speaks: then it is ``quiet``."""
        with self._attended():
            job = self._opened(quiet)
            if job is None:
                return None
            job.begin_reports()
            torch.set_num_threads(job.threads)
            report = job.session.advance()
            if report is not None:
                self.new_iterations += 1
                row = row_of(report)
                if self.folder is None:
                    self._table.add(row)
                if not job.session.stopped:
                    return row
            job.session.save()
            job.end_reports(self._summary(job))
            if job.session.stopped:
                assert self._interrupts is not None
                stop = Interrupted(self, self._interrupts.exit_code)
                self.interrupted = True
                if self.folder is not None:
                    self._release()
                raise stop
            self.interrupted = False
            self._release()
        return None

    def _opened(self, quiet: bool) -> Job | None:
        """The job, made if need be; None where there is nothing more to train."""
        assert self._communicator is not None and self._interrupts is not None
        if self._job is not None:
            self._job.session.interrupts = self._interrupts
            self._job.session.stopped = False
            return self._job
        if self._closed:
            raise UsageError(f"{self!r} was closed, and no folder has its state: begin another run.")
        if self._last is not None:
            return None
        self.interrupted = False
        verbosity = self._verbosity if self._verbosity is not None else -1 if quiet else 0
        folder = None
        if self.folder is not None:
            folder = RunFolder(self.folder)
            other = _paused.pop(self.folder.resolve(), None)
            if other is not None and other is not self and other._thread == threading.get_ident():
                other.close()
        program = self._program or Program()
        job = open_job(
            self.experiment,
            folder,
            self._communicator,
            replace(self._reporting, verbosity=verbosity),
            self._interrupts,
            clobber=self._clobber,
            command_line=program.command_line,
            place=program.place,
        )
        self._clobber = False
        if isinstance(job, Checkpoint):
            say(already_trained(self.experiment, job), self._communicator, verbosity)
            return None
        self._job = job
        weakref.finalize(self, job.close)
        return job

    def _pause(self) -> None:
        """Save and let the folder go; without a folder, keep everything but the reporters."""
        if self._job is None:
            return
        if self.folder is None:
            self._job.end_reports()
            return
        with self._attended():
            self._job.session.save()
            self._job.end_reports(self._summary(self._job))
            self._release()

    def _release(self) -> None:
        """Close the job; what no folder has is kept."""
        job, self._job = self._job, None
        if job is None:
            return
        self._timesteps = job.session.trainer.timesteps
        if self.folder is None and job.session.trainer.iteration:
            self._last = job.snapshot()
        else:
            _paused.pop((self.folder or Path()).resolve(), None)
        job.close()

    def _summary(self, job: Job) -> str:
        trainer, saved = job.session.trainer, f"Saved in {self.folder}."
        if not job.session.finished():
            return f"Stopped at {trainer.timesteps:,} timesteps." + (f" {saved}" if self.folder else "")
        recent = trainer.episodes.recent
        mean = sum(recent) / max(1, len(recent))
        score = f", mean score of the last {len(recent)} episodes {mean:.1f}"
        return (
            f"Trained {self.experiment.name} for {trainer.timesteps:,} timesteps in "
            f"{job.session.seconds:.1f} s{score if recent else ''}." + (f"\n{saved}" if self.folder else "")
        )
