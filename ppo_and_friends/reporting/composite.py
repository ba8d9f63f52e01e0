"""Several reporters as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.reporting.labels import Labels
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import Level, SilentReporter


class CompositeReporter(SilentReporter):
    """Several reporters as one; one that fails never stops the training.

    The first failure of a reporter is reported by the others. It is then dropped, unless it is the run's
    record (``must_not_stop``), which is tried again at every iteration.
    """

    def __init__(self, reporters: Sequence[SilentReporter]) -> None:
        """Call ``reporters`` in this order (put the one that shows messages first)."""
        self._reporters = list(reporters)
        self._failed: list[SilentReporter] = []

    def _each(self, action: Callable[[SilentReporter], None]) -> None:
        for reporter in tuple(self._reporters):
            try:
                action(reporter)
            except Exception as error:
                self._failure(reporter, error)

    def _failure(self, reporter: SilentReporter, error: Exception) -> None:
        if not reporter.must_not_stop:
            with contextlib.suppress(Exception):
                reporter.close()
            if reporter in self._reporters:
                self._reporters.remove(reporter)
        if any(failed is reporter for failed in self._failed):
            return
        self._failed.append(reporter)
        what = f"{type(reporter).__name__} failed ({type(error).__name__}: {error})"
        if reporter.must_not_stop:
            text = (
                f"{what}. THE RECORD OF THIS RUN IS INCOMPLETE on disk; training continues, and writing is "
                "tried again"
            )
        else:
            text = f"{what}; training goes on without it"
        for other in tuple(self._reporters):
            if other is not reporter:
                with contextlib.suppress(Exception):
                    other.message(text, level="warning")

    def start(self, run: RunStart) -> None:
        """Start every reporter."""
        self._each(lambda one: one.start(run))

    def model(self, agent: Agent) -> None:
        """Pass the agent to every reporter."""
        self._each(lambda one: one.model(agent))

    def wants_samples(self) -> bool:
        """Whether any reporter wants samples. All are asked."""
        wishes: list[bool] = []
        self._each(lambda one: wishes.append(one.wants_samples()))
        return any(wishes)

    def iteration(self, report: IterationReport) -> None:
        """Pass the report to every reporter."""
        self._each(lambda one: one.iteration(report))

    def message(self, text: str, *, level: Level = "note") -> None:
        """Pass the text to every reporter."""
        self._each(lambda one: one.message(text, level=level))

    def interrupted(self, text: str) -> bool:
        """Whether any reporter shows the text."""
        return any(one.interrupted(text) for one in tuple(self._reporters))

    def finish(self, summary: str) -> None:
        """Finish every reporter, the record before the terminal."""
        self._each(lambda one: one.finish(summary))

    def close(self) -> None:
        """Close every reporter."""
        self._each(lambda one: one.close())


def make_reporter(
    folder: Path | None,
    is_main: bool,
    *,
    verbosity: int = 0,
    tensorboard: bool = True,
    wandb: str | None = None,
    mlflow: str | None = None,
    labels: Labels | None = None,
    file: TextIO | None = None,
    more: Sequence[SilentReporter] = (),
) -> SilentReporter:
    """The reporters of a run: terminal, ``progress.csv``, TensorBoard and ``learning_curve.png``.

    Ranks other than the main one get a silent reporter.

    Args:
        folder: The run's folder, where all files are written; None: no files.
        is_main: Whether this rank reports.
        verbosity: -1 warnings only, 0 as usual, 1 everything.
        tensorboard: Whether to write TensorBoard's event files.
        wandb: Project of Weights & Biases to log to; None: don't.
        mlflow: Experiment of MLflow to log to; None: don't.
        labels: For both of these.
        file: Where to write; None: the notebook, or standard output.
        more: The user's own reporters.
    """
    if not is_main:
        return SilentReporter()
    from ppo_and_friends.reporting.notebook import make_console

    console = make_console(verbosity, file)
    reporters: list[SilentReporter] = [console]
    if folder is not None:
        from ppo_and_friends.reporting.plots import LearningCurve
        from ppo_and_friends.reporting.progress_csv import ProgressCSV

        reporters.append(ProgressCSV(folder / "progress.csv"))
        if tensorboard:
            from ppo_and_friends.reporting.tensorboard import TensorBoardReporter

            reporters.append(TensorBoardReporter(folder / "tensorboard", note=console.message))
        if wandb is not None:
            from ppo_and_friends.reporting.wandb import WandbReporter

            reporters.append(WandbReporter(folder, wandb, labels))
        if mlflow is not None:
            from ppo_and_friends.reporting.mlflow import MLflowReporter

            reporters.append(MLflowReporter(folder, mlflow, labels))
        reporters.append(LearningCurve(folder))
    return CompositeReporter([*reporters, *more])
