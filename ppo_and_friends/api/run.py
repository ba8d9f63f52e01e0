"""A run: trains on demand, and gives access to the results."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

from ppo_and_friends.api.driver import Driver, Program
from ppo_and_friends.api.job import Reporting
from ppo_and_friends.api.metrics_table import Table
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.find import restored_policy
from ppo_and_friends.policy.trained_policies import TrainedPolicies
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.reporting.labels import NO_LABELS, Labels
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.run_record import load_run
from ppo_and_friends.runs.checkpoint_contents import check_identity, settings_identity
from ppo_and_friends.runs.run_folder import policies_in
from ppo_and_friends.settings.experiment import Experiment


class Interrupted(KeyboardInterrupt):
    """Training was interrupted. It was saved if there is a folder.

    Attributes:
        run: The run, which can be continued.
        exit_code: The shell's status for the signal: 130 for Ctrl-C.
    """

    def __init__(self, run: Run, exit_code: int) -> None:
        """Describe where training stopped."""
        super().__init__(f"{run.experiment.name} stopped at {run.timesteps:,} timesteps")
        self.run, self.exit_code = run, exit_code


class Run:
    """The training of an experiment. Creating one doesn't start it.

    `train` creates one, and trains it at once if there is a folder. Under ``mpirun`` every rank creates
    the run and calls the same methods.

    Attributes:
        experiment: What is trained.
        folder: Where it is saved; None: in memory only.
    """

    def __init__(
        self,
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
        program: Program | None = None,
    ) -> None:
        """Describe the run; `train` explains the arguments in detail.

        Args:
            experiment: What to train.
            folder: Where to save it; None: in memory only.
            communicator: The ranks.
            clobber: Start over.
            accept_changes: Resume with settings that differ from the saved ones.
            verbosity: What is shown.
            tensorboard: Whether to write TensorBoard's event files.
            wandb: Project of Weights & Biases.
            mlflow: Experiment of MLflow.
            labels: For these two.
            reporters: Your own.
            stall_timeout: Seconds without any progress after which the process is ended; 0: never.
            program: Used by the command line.
        """
        self.experiment = experiment
        self.folder = None if folder is None else Path(folder)
        reporting = Reporting(verbosity, tensorboard, wandb, mlflow, labels, tuple(reporters))
        self._driver = Driver(
            experiment,
            self.folder,
            communicator,
            reporting,
            clobber=clobber,
            accept_changes=accept_changes,
            stall_timeout=stall_timeout,
            program=program,
        )

    def iterations(self) -> Iterator[dict[str, float]]:
        """Train one iteration at a time, up to the experiment's timesteps.

        Leave the loop at any time: with a folder, the run is then saved and the folder released; without
        one, it stays in memory. A later call continues. Under ``mpirun`` leave the loop at the same
        iteration on all ranks.

        Yields:
            The iteration's metrics by name, as in ``metrics``; equal on all ranks except for timings.

        Raises:
            Interrupted: Ctrl-C. The iteration was finished, and saved if there is a folder.
            PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
        """
        driver = self._driver
        while (row := driver.advance(verbosity=-1)) is not None:
            driver.wait()
            try:
                yield row
            except GeneratorExit:
                if not sys.is_finalizing():
                    driver.pause()
                raise
        self._raise_if_interrupted()

    def finish(self) -> Self:
        """Train to the end: to the experiment's timesteps, or until a friend ends the training.

        Returns:
            This run.

        Raises:
            Interrupted: Ctrl-C. The iteration was finished, and saved if there is a folder.
            PPOError: A mistake in the settings, an environment that fails, a state that doesn't fit.
        """
        with self._driver.attended():
            while self._driver.advance(verbosity=0) is not None:
                pass
        self._raise_if_interrupted()
        return self

    @property
    def metrics(self) -> Table:
        """The metrics of all iterations so far: arrays [iterations] by name, NaN where unknown.

        The columns are those of ``progress.csv``, which is read if there is a folder. Of several policies,
        they are the first one's.
        ``pandas.DataFrame(run.metrics)`` converts them. A run that was never started is trained to its end.
        """
        self._begin()
        folder = self.folder
        if folder is not None and (several := policies_in(folder)):
            folder = next((several[name] for name in self._driver.snapshots() if name in several), folder)
        try:
            return self._driver.table.columns() if folder is None else load_run(folder).columns
        except UsageError:  # no iteration yet
            return self._driver.table.columns()

    def policy(self, *, device: Literal["auto", "cpu", "cuda"] = "cpu") -> TrainedPolicy:
        """The current policy. A run that was never started is trained to its end.

        Args:
            device: Where to place its network.

        Returns:
            A copy, unaffected by further training. If agents have different ones, all of them
            (`TrainedPolicies`): ``run.policy()["adversary"]`` is one.
        """
        self._begin()
        policies = dict[str, TrainedPolicy]()
        for name, snapshot in self._driver.snapshots().items():
            check_identity(snapshot.checkpoint, settings_identity(snapshot.experiment))
            experiment, older = replace(snapshot.experiment, device=device), self._driver.folder is not None
            checkpoint, policies[name] = restored_policy(experiment, snapshot.checkpoint, older=older)
            if checkpoint.notes:
                warnings.warn("\n".join(checkpoint.notes), stacklevel=2)
        if not policies:
            raise UsageError(f"{self!r} has no policy: no iteration was trained.")
        if self.experiment.agents.several:
            return cast(TrainedPolicy, TrainedPolicies(replace(self.experiment, device=device), policies))
        return next(iter(policies.values()))

    @property
    def timesteps(self) -> int:
        """Agent steps so far, of all policies, over all ranks and including earlier sessions."""
        job = self._driver.job
        if job is not None:
            return job.timesteps
        return sum(snapshot.checkpoint.timesteps for snapshot in self._driver.snapshots().values())

    @property
    def new_iterations(self) -> int:
        """Number of iterations trained by this object."""
        return self._driver.iterations

    @property
    def interrupted(self) -> bool:
        """Whether a signal stopped it, and it hasn't been continued since."""
        return self._driver.stopped_by != 0

    def close(self) -> None:
        """Save if there is a folder, and release environments, files and the folder.

        Without a folder, ``policy()`` and ``metrics`` remain available, but training can't continue.
        """
        self._driver.close()

    def __enter__(self) -> Self:
        """Return the run itself."""
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
        """Train to the end if the run was never started."""
        if not self._driver.begun:
            self.finish()

    def _raise_if_interrupted(self) -> None:
        if self.interrupted:
            raise Interrupted(self, self._driver.stopped_by)
