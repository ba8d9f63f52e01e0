"""A training session: iterations up to the run's number of timesteps, with reports and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.grace import RolloutGivenUp
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.distributed.replication import assert_replicated
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.samples import action_std, samples_of
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest, save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.exact_resume import UnsavableState, capture_environments
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_tensors import finite_names, refuse_infinite, refuse_unsavable
from ppo_and_friends.settings.plain import experiment_settings

T = TypeVar("T")


def load_checkpoint(
    communicator: Communicator, folder: RunFolder, before: Path | None = None
) -> Checkpoint | None:
    """Read a run's newest intact checkpoint on rank 0 and broadcast it to all ranks. Collective.

    Args:
        communicator: The ranks.
        folder: The run's folder.
        before: Only those that are older than this one; None: all.

    Returns:
        The checkpoint; None if there is none.

    Raises:
        CheckpointError: On all ranks, if there are checkpoints but all are damaged.
    """
    return on_main(communicator, lambda: load_latest(folder.checkpoints, check_contents, before))


@dataclass
class Session:
    """Runs a trainer up to its experiment's number of timesteps. Every rank has its own session."""

    trainer: Trainer
    communicator: Communicator
    folder: RunFolder | None
    """Where checkpoints are saved; None: nothing is saved."""

    reporter: SilentReporter
    interrupts: Interrupts
    seconds: float = 0.0
    """Training time so far in seconds, including sessions before a resume."""

    place: dict[str, str] = field(default_factory=dict)
    """Updated under the key ``where`` with the current iteration, for error messages."""

    notices: Callable[[], list[str]] = list
    """Notices about the environments that have not been shown yet."""

    _saved_at: float = field(default_factory=time.monotonic)
    _saved_iteration: int = -1
    _iterated: int = 0

    _update_seconds: float = 0.0
    _before: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    """What there was before a rollout that was given up."""

    _environments_before: dict[str, Tensor] | None = None
    """Likewise, if the run resumes exactly."""

    stopped: bool = False
    """Whether a signal asked to stop; equal on all ranks."""

    def __post_init__(self) -> None:
        """Note which of the agent's tensors are finite now, and must stay so."""
        tensors = self.trainer.agent.tensors()
        if self.folder is not None:
            refuse_unsavable(tensors)
        self._finite = finite_names(tensors)

    def run(self) -> int:
        """Train until the number of timesteps is reached, a friend ends the run, or a signal stops it; save.

        Returns:
            0, or the exit status of the signal that stopped the session (130 for Ctrl-C).

        Raises:
            ReplicationError: On all ranks, if ranks differ in a parameter or buffer.
            CheckpointError: On all ranks, if the final checkpoint can't be written.
        """
        while self.advance() is not None:
            pass
        self.save()
        return self.interrupts.exit_code if self.stopped else 0

    def advance(self) -> IterationReport | None:
        """Train one iteration, and save if a checkpoint is due; None if there is nothing left to train."""
        if self.stopped or self.finished():
            return None
        self.place["where"] = f"iteration {self.trainer.iteration + 1}"
        report = self._iterate_in_time()
        if report is None:
            self.stopped = self.interrupts.agreed()
            return None
        self.reporter.iteration(report)
        if self._iterated == 1:
            self.tell_notices()
        self.stopped = self.interrupts.agreed()
        if self.folder is not None and self._is_due():
            self._save_or_warn()
        return report

    def tell_notices(self) -> None:
        """Show what the environments have made worth knowing, such as rules that they don't keep."""
        for notice in self.notices():
            self.reporter.message(notice)

    def finished(self) -> bool:
        """Whether the budget is reached, or a friend ends the training. Equal on all ranks."""
        trainer = self.trainer
        return trainer.timesteps >= trainer.experiment.num_timesteps or trainer.friends.finished()

    def _iterate_in_time(self) -> IterationReport | None:
        """Train one iteration; None if its rollout was given up, since the job will be killed before."""
        trainer, deadline = self.trainer, self.interrupts.deadline
        if deadline is None or self.folder is None:
            trainer.collector.deadline = None
            return self._iterate()
        trainer.collector.deadline, deadline.reserve = deadline, self._update_seconds
        # What friends gather during a rollout must not be saved without what they make of it.
        tensors, state = capture(trainer, self.seconds)
        self._before = {n: t.clone() if n.startswith("friends.") else t for n, t in tensors.items()}, state
        self._environments_before = self._environments(tell=False)
        try:
            report = self._iterate()
        except RolloutGivenUp:
            trainer.iteration -= 1
            self.reporter.message("The iteration under way was given up, to save in time.", level="warning")
            return None
        self._before = None
        metrics = report.metrics
        self._update_seconds = metrics["time_update"] + metrics["time_communication"]
        return report

    def _iterate(self) -> IterationReport:
        trainer = self.trainer
        trainer.stopwatch.take()  # what setting up or saving took belongs to no iteration
        before, start = trainer.timesteps, time.perf_counter()
        metrics = trainer.train_iteration()
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self._iterated += 1
        times = {f"time_{name}": spent for name, spent in trainer.stopwatch.take().items()}
        training = max(1e-9, seconds - times["time_evaluation"])
        metrics |= times | {"steps_per_second": (trainer.timesteps - before) / training}
        rollout, mapping = trainer.collector.rollout, trainer.agent.mapping
        samples = samples_of(rollout, mapping) if self.reporter.wants_samples() else {}
        metrics |= action_std(rollout, mapping)
        return IterationReport(
            iteration=trainer.iteration,
            timesteps=trainer.timesteps,
            num_timesteps=trainer.experiment.num_timesteps,
            seconds=self.seconds,
            metrics=metrics,
            highest=dict(trainer.highest.numbers),
            samples=samples,
            recordings=trainer.friends.recordings(),
        )

    def _environments(self, tell: bool = True) -> dict[str, Tensor] | None:
        """States of the environments, if the run resumes exactly. A collective then.

        Args:
            tell: Whether to warn if they can't be saved.
        """
        if not self.trainer.experiment.exact_resume:
            return None
        try:
            return capture_environments(self.trainer)
        except UnsavableState as error:
            if tell:
                self.reporter.message(f"{error} This checkpoint can't be resumed exactly.", level="warning")
            return None

    def _is_due(self) -> bool:
        """Return whether a checkpoint is due, by rank 0's clock. Collective."""
        elapsed = time.monotonic() - self._saved_at
        return bool(self.communicator.broadcast(elapsed >= self.trainer.experiment.checkpoint_seconds))

    def _save_or_warn(self) -> None:
        """Save; if that fails, warn and keep training, since a later attempt may succeed."""
        try:
            self.save()
        except CheckpointError as error:
            self.reporter.message(str(error), level="warning")
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Check that all ranks agree, then save on rank 0, unless it is saved already. A collective.

        Raises:
            ReplicationError: Ranks differ in a parameter or buffer.
            CheckpointError: The checkpoint can't be written.
            PPOError: A parameter, a moment or a statistic is NaN or infinite; nothing was written.
        """
        trainer = self.trainer
        if self.folder is None or trainer.iteration == self._saved_iteration:
            return
        checkpoints = self.folder.checkpoints
        refuse_infinite(trainer.agent.tensors(), self._finite)
        trainer.friends.before_checkpoint()
        tensors, state = self._before or capture(trainer, self.seconds)
        environments = self._environments_before if self._before else self._environments()
        refuse_infinite(tensors, self._finite)
        assert_replicated(self.communicator, {n: t.detach().cpu().numpy() for n, t in tensors.items()})
        extra = {
            "ranks": self.communicator.processes,
            "experiment": experiment_settings(trainer.experiment),
        }
        keep = trainer.experiment.keep_checkpoints
        on_main(
            self.communicator,
            lambda: save_checkpoint(
                checkpoints, trainer.timesteps, tensors, state, extra, keep, environments
            ),
        )
        self._saved_iteration = trainer.iteration
        PULSE.beat()
