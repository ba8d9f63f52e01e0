"""TensorBoard's event files, by TensorBoard's own writer (no torch, no TensorFlow)."""

from __future__ import annotations

import contextlib
import io
import math
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppo_and_friends.reporting.accumulation import Accumulator
from ppo_and_friends.reporting.hyperparameters import hparams_summaries
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.run_metrics import EVALUATED, FINAL, METRICS
from ppo_and_friends.reporting.samples import SampleClock

if TYPE_CHECKING:
    from ppo_and_friends.ppo.agent import Agent

HISTOGRAM_BUCKETS = 30

LEAST_SECONDS = 0.2
"""Training time between two points of a curve: quick iterations aren't slowed down by their record.

The iterations in between go into the next point. TensorBoard shows a thousand points of a curve; every
iteration is in ``progress.csv``.
"""

FINAL_SCORE, BEST_SCORE, EVALUATION = (metric.name for metric in FINAL)
FINAL_SCORES = {FINAL_SCORE: "score", BEST_SCORE: "best score", EVALUATION: "evaluation"}
"""What the HParams tab compares runs by, and under which names."""


def tag_of(metric: str) -> str:
    """The scalar's tag: ``episode_return_mean`` is ``episode/return_mean``, ``icm/loss`` stays as it is."""
    if metric in METRICS and METRICS[metric].tag:
        return METRICS[metric].tag
    if "/" in metric:
        return metric
    for group in ("episode", "time"):
        if metric.startswith(f"{group}_"):
            return f"{group}/{metric.removeprefix(f'{group}_')}"
    return f"other/{metric}"


class TensorBoardReporter(SilentReporter):
    """Writes scalars, histograms and videos over timesteps, in an event file for each start of the run.

    The settings and the final scores are in the HParams tab, the network is in the Graphs tab.

    After a resume, the points that were trained after the checkpoint and are trained again are
    purged, so that the curves continue without overlapping.
    """

    def __init__(self, folder: Path, *, note: Callable[[str], Any] | None = None) -> None:
        """Write into ``folder``; ``note`` is told if TensorBoard isn't installed."""
        self._folder = folder
        self._note = note
        self._writer: Any = None
        self._event: Any = None
        self._summary: Any = None
        self._purge = False
        self._resumed_timesteps: int | None = None
        self._samples = SampleClock()
        self._last: IterationReport | None = None
        self._written: IterationReport | None = None
        self._pending = Accumulator()
        self._evaluation = math.nan

    def start(self, run: RunStart) -> None:
        """Open an event file; without the package, say so and write nothing."""
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            if self._note is not None:
                self._note(
                    "TensorBoard isn't installed, so no event files are written (pip install tensorboard)"
                )
            return
        if run.resumed_from is None:
            # A new run must not be drawn over what is left of another one.
            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._event, self._summary = event_pb2, summary_pb2
        self._purge, self._resumed_timesteps = run.resumed_from is not None, run.resumed_timesteps
        _silence_writers()
        self._writer = EventFileWriter(str(self._folder), flush_secs=10)
        for content in hparams_summaries(run.experiment, run.ranks, FINAL_SCORES):
            self._write(run.resumed_timesteps or 0, summary=content)

    def model(self, agent: Agent) -> None:
        """Write the network's graph, once in a run; one that can't be followed is left out."""
        if self._writer is None or self._purge:
            return
        from ppo_and_friends.reporting.model_graph import graph_definition, graph_of

        with contextlib.suppress(Exception):
            self._write(
                0,
                graph_def=graph_definition(graph_of(agent.network, agent.example(agent.network.group_size))),
            )

    def wants_samples(self) -> bool:
        """Every 20th report, and no more often than every 5 s."""
        return self._writer is not None and self._samples.due()

    def iteration(self, report: IterationReport) -> None:
        """Write every metric that is a number now, or keep it for the next point if one was just before."""
        if self._writer is None:
            return
        self._last = report
        self._pending.add(report.metrics)
        if not math.isnan(report.metric(EVALUATED)):
            self._evaluation = report.metric(EVALUATED)
        before = self._written
        if before is None or report.seconds - before.seconds >= LEAST_SECONDS:
            self._scalars(report)
        if report.samples:
            self._histograms(report)
        for name, path in report.recordings.items():
            self._film(report.timesteps, name, path)

    def _scalars(self, report: IterationReport) -> None:
        self._written = report
        if self._purge:
            self._purge = False
            known = self._resumed_timesteps
            self._restart(report.timesteps if known is None else known + 1)
        values = [
            self._summary.Summary.Value(tag=tag_of(name), simple_value=value)
            for name, value in self._pending.take().items()
        ]
        self._write(report.timesteps, summary=self._summary.Summary(value=values))

    def _film(self, step: int, name: str, path: Path) -> None:
        """An animated picture in the Images tab, which plays GIFs."""
        from PIL import Image

        from ppo_and_friends.evaluation.pictures import gif_of

        try:
            data = gif_of(path)
            with Image.open(io.BytesIO(data)) as film:
                width, height = film.size
        except OSError:
            return  # the file is what counts, and who can't write it says so
        image = self._summary.Summary.Image(
            encoded_image_string=data, width=width, height=height, colorspace=3
        )
        value = self._summary.Summary.Value(tag=f"video/{name}", image=image)
        self._write(step, summary=self._summary.Summary(value=[value]))

    def _histograms(self, report: IterationReport) -> None:
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for name, values in report.samples.items():
            if len(values):
                tag = name if "/" in name else f"{name}/all"
                self._write(report.timesteps, summary=histogram_pb(tag, values, HISTOGRAM_BUCKETS))

    def finish(self, summary: str) -> None:
        """Write the final scores, and flush everything to disk."""
        if self._writer is None or self._last is None:
            return
        last = self._last
        if last is not self._written:
            self._scalars(last)
        final = {
            FINAL_SCORE: last.metric("episode_return_mean_100"),
            BEST_SCORE: last.highest.get(EVALUATED, last.highest.get("episode_return_mean_100", math.nan)),
            EVALUATION: self._evaluation,
        }
        values = [
            self._summary.Summary.Value(tag=tag, simple_value=value)
            for tag, value in final.items()
            if not math.isnan(value)
        ]
        self._write(last.timesteps, summary=self._summary.Summary(value=values))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _restart(self, step: int) -> None:
        """Tell readers to forget the points from ``step`` on in earlier files."""
        log = self._event.SessionLog(status=self._event.SessionLog.START)
        self._write(step, session_log=log)

    def _write(self, step: int, **content: Any) -> None:
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, **content))


@cache
def _silence_writers() -> None:
    """Print no traceback when an event file can't be written: the reporter's next call raises it again."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            before(failed)

    threading.excepthook = hook
