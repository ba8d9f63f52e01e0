"""Advances a run iteration by iteration, and restores the process's state in between."""

from __future__ import annotations

import json
import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from ppo_and_friends.api.job import Job, Reporting, Snapshot, open_job, say
from ppo_and_friends.api.joint_job import open_joint_job, saved_policies
from ppo_and_friends.api.metrics_table import MetricsTable, row_of
from ppo_and_friends.api.sharded_job import open_sharded_job
from ppo_and_friends.api.summary import already_trained
from ppo_and_friends.common.frames import last_frames
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.alike_ranks import check_ranks
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.grace import Grace, find_grace
from ppo_and_friends.distributed.interrupts import Interrupts, may_be_pressed
from ppo_and_friends.distributed.launch import alike, make_communicator
from ppo_and_friends.distributed.shards import HostedShards
from ppo_and_friends.distributed.watchdog import Watchdog
from ppo_and_friends.errors import EnvironmentFault, PPOError, UsageError
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import experiment_settings


@dataclass(frozen=True)
class Program:
    """Settings for a program that runs a single training, such as the command line."""

    command_line: tuple[str, ...] = ()
    """Recorded in ``experiment.json``."""

    place: dict[str, str] = field(default_factory=dict)
    """Receives the current position (``where``). The program itself reports errors on all ranks."""

    grace: float | None = None
    """Seconds from a signal to the end of the job; None: as the scheduler says, if there is one."""


_paused: weakref.WeakValueDictionary[Path, Driver] = weakref.WeakValueDictionary()
"""Drivers suspended inside a caller's loop, by folder. A notebook keeps the last error's traceback alive, and
with it the loop that raised it, which would otherwise lock its folder until the kernel ends."""


class Driver:
    """The training behind a `Run`: opened on demand, closed when it ends or is released.

    Attributes:
        job: The open job; None if there is none.
        last: The final policies of a training without a folder.
        table: The metrics of a training without a folder.
        iterations: Number of iterations trained by this object.
        stopped_by: Exit status of the signal that stopped it; 0 if it was not interrupted.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path | None,
        communicator: Communicator | None,
        reporting: Reporting,
        *,
        clobber: bool,
        accept_changes: bool,
        stall_timeout: float,
        program: Program | None,
    ) -> None:
        """Store the arguments, which are those of `Run`; nothing is opened yet.

        Raises:
            UsageError: An argument makes no sense.
        """
        if not 0 <= stall_timeout < math.inf:  # NaN fails every comparison
            raise UsageError(f"stall_timeout: seconds, or 0 for never, not {stall_timeout:g}.")
        self.experiment, self.folder = experiment, None if folder is None else RunFolder(folder)
        self.job: Job | None = None
        self.last: dict[str, Snapshot] = {}
        self.table = MetricsTable()
        self.iterations = 0
        self.stopped_by = 0
        self._communicator, self._reporting = communicator, reporting
        self._clobber, self._accept_changes, self._program = clobber, accept_changes, program
        self._stall_timeout = stall_timeout
        self._place = {} if program is None else program.place
        self._interrupts: Interrupts | None = None
        self._closed = False
        self._thread = 0
        self._finalizer: weakref.finalize[..., Driver] | None = None

    def snapshots(self) -> dict[str, Snapshot]:
        """The newest state of each policy, by name, in memory or in the folder; empty if there is none."""
        if self.job is not None and self.job.session.trainer.iteration:
            return self.job.snapshots()
        if self.folder is None:
            return self.last
        if self.experiment.agents.several:
            return saved_policies(self.experiment, self.folder)
        checkpoint = load_latest(self.folder.checkpoints, check_contents)
        return {} if checkpoint is None else {self.experiment.name: Snapshot(self.experiment, checkpoint)}

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Handle signals, torch's threads and errors inside the context; restore them on leaving it."""
        if self._interrupts is not None:
            yield
            return
        if self._communicator is None:
            self._communicator = make_communicator()
        threads, this = torch.get_num_threads(), weakref.ref(self)

        def shown(text: str) -> bool:
            driver = this()
            return driver is not None and driver.job is not None and driver.job.interrupted(text)

        alone = self._program is None
        interrupts = Interrupts(self._communicator, ends_process=not alone, grace=self._grace())
        interrupts.announce_by(shown)
        pressed = True
        try:
            with alike(self._communicator, alone), interrupts, self._watchdog():
                self._interrupts = interrupts
                try:
                    yield
                except KeyboardInterrupt:
                    pressed = may_be_pressed()
                    raise
        except BaseException as error:
            if isinstance(error, EnvironmentFault) and self.folder is not None:
                self.folder.keep_traceback(error, self._communicator.rank)
            if self.job is not None:  # possibly in the middle of an iteration
                self.release()
                self._closed = self.folder is None
            if isinstance(error, SystemExit):  # a friend or a reporter can't end a training in silence
                said = "" if error.code is None else repr(error.code)
                raise _ended(f"sys.exit({said}) was called", error) from error
            if isinstance(error, KeyboardInterrupt) and not pressed:
                raise _ended("KeyboardInterrupt was raised, though nobody pressed Ctrl-C,", error) from error
            raise
        finally:
            self._interrupts = None
            torch.set_num_threads(threads)

    def _grace(self) -> Grace:
        """How long the job lives on after a signal: rank 0 knows. A collective."""
        assert self._communicator is not None
        program = self._program
        return Grace() if program is None else on_main(self._communicator, lambda: find_grace(program.grace))

    def _watchdog(self) -> Watchdog:
        assert self._communicator is not None
        return Watchdog(self._communicator, self._stall_timeout, lambda: self._place.get("where", "start"))

    def advance(self, verbosity: int) -> dict[str, float] | None:
        """Train one iteration.

        Args:
            verbosity: Used if the caller of `Run` gave none.

        Returns:
            Its metrics; None if training has ended or was interrupted (see ``stopped_by``).
        """
        with self.attended():
            job = self._opened(verbosity)
            if job is None:
                return None
            job.begin_reports(verbosity)
            torch.set_num_threads(job.threads)
            report = job.advance()
            if report is not None:
                self.iterations += 1
                row = row_of(report)
                if self.folder is None:
                    self.table.add(row)
                if not job.stopped:
                    return row
            job.save()
            job.end_reports()
            if job.stopped:
                assert self._interrupts is not None
                self.stopped_by = self._interrupts.exit_code
            if self.folder is not None or not job.stopped:
                self.release()
        return None

    def wait(self) -> None:
        """Note that the caller's loop body runs now."""
        self._thread = threading.get_ident()
        if self.folder is not None:
            _paused[self.folder.path.resolve()] = self

    def pause(self) -> None:
        """Save and release the folder; without one, close the reporters only. A collective."""
        if self.job is None:
            return
        if self.folder is None:
            self.job.end_reports()
            return
        with self.attended():
            self.job.save()
            self.job.end_reports()
            self.release()

    def close(self) -> None:
        """Save and release everything; without a folder, keep the policy but end the training."""
        if self.job is not None:
            self.pause()
            self.release()
        self._closed = self.folder is None

    @property
    def begun(self) -> bool:
        """Whether anything was trained, by this object or by an earlier run in the folder."""
        return self.job is not None or self._closed or bool(self.snapshots())

    def release(self) -> None:
        """Close the job without saving. Not a collective."""
        job, self.job = self.job, None
        if job is None:
            return
        if self.folder is not None:
            _paused.pop(self.folder.path.resolve(), None)
        elif job.session.trainer.iteration:
            self.last = job.snapshots()
        if self._finalizer is not None:
            self._finalizer.detach()
        job.close()

    def _opened(self, verbosity: int) -> Job | None:
        """The job, created if necessary; None if there is nothing left to train."""
        assert self._communicator is not None and self._interrupts is not None
        self.stopped_by = 0
        if self.job is not None:
            self.job.attend(self._interrupts)
            return self.job
        if self._closed:
            raise UsageError(
                f"The run of {self.experiment.name} was closed and has no folder to resume from."
            )
        if self.last:
            return None
        self._release_suspended()
        if self._program is None:
            settings = json.dumps(experiment_settings(self.experiment))
            for note in check_ranks(self._communicator, {"settings": settings}):
                say(note, self._communicator, verbosity)
        command_line = () if self._program is None else self._program.command_line
        opener = partial(
            open_joint_job if self.experiment.agents.several else open_job,
            self.experiment,
            self.folder,
            reporting=self._reporting,
            clobber=self._clobber,
            accept_changes=self._accept_changes,
            command_line=command_line,
            place=self._place,
        )
        shards, environments = self.experiment.deterministic_shards, self.experiment.environment.num_envs
        if shards > environments:
            raise UsageError(
                f"deterministic_shards={shards}: each shard needs an environment, and there are "
                f"{environments} (environment.num_envs)."
            )
        # Of orthogonal initialisation, the last bits depend on the number of threads.
        torch.set_num_threads(1)
        job: Job | Checkpoint
        if shards:
            job = open_sharded_job(opener, HostedShards(self._communicator, shards), self._interrupts)
        else:
            job = opener(communicator=self._communicator, interrupts=self._interrupts)
        self._clobber = False
        if isinstance(job, Checkpoint):
            asked = self._reporting.verbosity
            verbosity = verbosity if asked is None else asked
            say(already_trained(self.experiment, job), self._communicator, verbosity)
            return None
        self.job = job
        self._finalizer = weakref.finalize(self, job.close)
        return job

    def _release_suspended(self) -> None:
        """Close a suspended training in the same folder, unless another thread may be running it."""
        if self.folder is None:
            return
        other = _paused.pop(self.folder.path.resolve(), None)
        if other is not None and other is not self and other._thread == threading.get_ident():
            other.close()


def _ended(how: str, error: BaseException) -> PPOError:
    """The error for code that ends a training that isn't its own."""
    frames = "".join(f"\n  {line}" for line in last_frames(error))
    return PPOError(f"{how} in the midst of training.{frames}")
