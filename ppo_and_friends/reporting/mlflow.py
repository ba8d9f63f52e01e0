"""MLflow: an optional tracker (the extra ``mlflow``), on a server or in files."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.hyperparameters import hyperparameters
from ppo_and_friends.reporting.labels import Labels, group_name, run_title
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.tensorboard import tag_of

EXPERIMENT = "ppo-and-friends"
ID_FILE = "mlflow.json"

LEAST_SECONDS = 1.0
"""Between two calls of the server; what is reported in between goes along with the next."""

AT_ONCE = 1000
"""Most numbers that MLflow takes in a call; of settings it takes 100."""

NOTES = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""


def require_mlflow() -> None:
    """Refuse to begin a run that can't be tracked.

    Raises:
        UsageError: The package isn't installed.
    """
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise UsageError("--mlflow needs a package that isn't installed: pip install mlflow") from None


class MLflowReporter(SilentReporter):
    """Logs settings and scalars over timesteps to an MLflow run, which a resumed run goes on with.

    Where to is MLflow's own business: ``MLFLOW_TRACKING_URI``.
    """

    def __init__(self, folder: Path, experiment: str = EXPERIMENT, labels: Labels | None = None) -> None:
        """Keep the run's id in ``folder``, in ``mlflow.json``."""
        self._folder, self._experiment = folder, experiment
        self._labels = labels or Labels()
        self._client: Any = None
        self._id = ""
        self._waiting: list[Any] = []
        self._sent = 0.0
        self._finished = False

    def start(self, run: RunStart) -> None:
        """Begin a run, or take up the one whose id is in the folder."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._finished = False
        known = self._saved_id() if run.resumed_from is not None else None
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return
        self._id = self._new(run)
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {"id": self._id, "experiment": self._experiment}
        replace_file(self._folder / ID_FILE, json.dumps(content).encode())

    def _new(self, run: RunStart) -> str:
        from mlflow.entities import Param

        labels = self._labels
        tags = {"group": labels.group or group_name(run.experiment, labels)}
        tags |= dict.fromkeys(labels.tags, "true")
        if labels.notes is not None:
            tags[NOTES] = labels.notes
        title = run_title(run.experiment, labels)
        made = self._client.create_run(self._experiment_id(), tags=tags, run_name=title)
        settings = hyperparameters(run.experiment, run.ranks)
        params = [Param(name, str(value)[:6000]) for name, value in settings.items()]
        for first in range(0, len(params), 100):
            self._client.log_batch(made.info.run_id, params=params[first : first + 100])
        return str(made.info.run_id)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self._experiment))
            except Exception:
                # Another run of a study was quicker.
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def iteration(self, report: IterationReport) -> None:
        """Log every metric that is a number now."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [
            Metric(tag_of(name), value, now, report.timesteps)
            for name, value in report.metrics.items()
            if not math.isnan(value)
        ]
        if time.monotonic() - self._sent >= LEAST_SECONDS:
            self._send()

    def _send(self) -> None:
        self._sent = time.monotonic()
        while self._waiting:
            now, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            self._client.log_batch(self._id, metrics=now)

    def finish(self, summary: str) -> None:
        """Mark the run as done."""
        if self._client is not None:
            self._send()
            self._client.set_tag(self._id, "outcome", summary.partition("\n")[0])
            self._finished = True

    def close(self) -> None:
        """Hand over what is left, and end."""
        if self._client is None:
            return
        try:
            self._send()
            self._client.set_terminated(self._id, "FINISHED" if self._finished else "KILLED")
        finally:
            self._client = None

    def _saved_id(self) -> str | None:
        try:
            content = json.loads((self._folder / ID_FILE).read_bytes())
            return str(content["id"]) if content["experiment"] == self._experiment else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
