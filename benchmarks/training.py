"""Training runs as jobs, and what they learned."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.curve_comparison import Curve
from benchmarks.jobs import Job, Pool, begin_log, last_line
from benchmarks.measurements import MeasurementError
from benchmarks.runs import Run, source_state
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.reporting.curves import load_run


def training(run: Run, side: str) -> Job | None:
    """What trains a run, or goes on with it.

    Args:
        run: The run.
        side: Of a comparison, for messages.

    Returns:
        None: it is trained.
    """
    if run.trained:
        return None

    def before() -> None:
        begin_log(run.log)
        run.note_start(source_state())

    return Job(f"{side}, {run.name}", [run.command()], run.log.absolute(), run.status, before)


def run_all(jobs: Sequence[Job], at_once: int | None) -> None:
    """Run jobs side by side; None: as many at once as there are cores.

    Raises:
        MeasurementError: A job failed.
        KeyboardInterrupt: It was interrupted; the next time goes on with what isn't finished.
    """
    if not Pool(at_once or usable_cores()).run(jobs):
        raise KeyboardInterrupt
    failed = [f"{job.name} failed: {last_line(job.log)}" for job in jobs if job.returncode != 0]
    if failed:
        raise MeasurementError("\n".join(failed))


def training_curve(run: Run) -> Curve:
    """Timesteps and mean score of 100 episodes."""
    columns = load_run(run.folder.path).columns
    return [list(pair) for pair in zip(columns["timesteps"], columns["score_mean_100"], strict=True)]
