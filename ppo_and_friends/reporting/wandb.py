"""Weights & Biases: an optional tracker (the extra ``track``); its offline mode needs no network."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.hyperparameters import hyperparameters
from ppo_and_friends.reporting.labels import Labels, group_name, run_title
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.reporting.tensorboard import tag_of

PROJECT = "ppo-and-friends"
ID_FILE = "wandb.json"

HISTOGRAM_BINS = 64


def require_wandb() -> None:
    """Refuse to begin a run that can't be tracked.

    Raises:
        UsageError: The package isn't installed.
    """
    try:
        import wandb  # noqa: F401
    except ImportError:
        raise UsageError("--wandb needs a package that isn't installed: pip install wandb") from None


class WandbReporter(SilentReporter):
    """Logs scalars over timesteps to a W&B run, which a resumed run goes on with."""

    def __init__(self, folder: Path, project: str = PROJECT, labels: Labels | None = None) -> None:
        """Keep the run's id in ``folder``, in ``wandb.json``, and offline data in its ``wandb/``.

        Args:
            folder: The run's.
            project: ``PROJECT``, or ``ENTITY/PROJECT`` for a team's.
            labels: By which the run is found again. Where they say nothing, ``WANDB_RUN_GROUP``,
                ``WANDB_TAGS`` and ``WANDB_NOTES`` count.
        """
        self._folder, self._project = folder, project
        self._labels = labels or Labels()
        self._run: Any = None

    def start(self, run: RunStart) -> None:
        """Begin a run, or take up the one whose id is in the folder."""
        import wandb

        experiment, labels = run.experiment, self._labels
        entity, _, project = self._project.rpartition("/")
        known = self._saved_id() if run.resumed_from is not None else None
        self._folder.mkdir(parents=True, exist_ok=True)
        # W&B's console capture would interfere with the live display.
        settings: dict[str, Any] = {"console": "off", "quiet": True}
        if labels.part_of is not None:
            # One policy's run would end the one before it. Otherwise it is `wandb.run`, for users' own code.
            settings["reinit"] = "create_new"
        self._run = wandb.init(
            entity=entity or None,
            project=project,
            id=known,
            resume="allow" if known else None,
            name=run_title(experiment, labels),
            group=labels.group or os.environ.get("WANDB_RUN_GROUP") or group_name(experiment, labels),
            tags=labels.tags or None,
            notes=labels.notes,
            config=hyperparameters(experiment, run.ranks),
            dir=str(self._folder),
            settings=wandb.Settings(**settings),
        )
        self._run.define_metric("timesteps")
        self._run.define_metric("*", step_metric="timesteps")
        content = {"id": self._run.id, "project": self._project}
        replace_file(self._folder / ID_FILE, json.dumps(content).encode())

    def iteration(self, report: IterationReport) -> None:
        """Log every metric that is a number now, and the samples as histograms."""
        if self._run is None:
            return
        import wandb

        content: dict[str, Any] = {
            tag_of(name): value for name, value in report.metrics.items() if not math.isnan(value)
        }
        for name, values in report.samples.items():
            if len(values):
                content[f"histograms/{name}"] = wandb.Histogram(values, num_bins=HISTOGRAM_BINS)
        for name, path in report.recordings.items():
            content[f"video/{name}"] = wandb.Video(str(path), format=path.suffix[1:])
        self._run.log(content | {"timesteps": report.timesteps, "iteration": report.iteration})
        self._run.summary["episode/return_mean_100"] = report.metric("episode_return_mean_100")

    def finish(self, summary: str) -> None:
        """Mark the run as done."""
        if self._run is not None:
            self._run.summary["outcome"] = summary.partition("\n")[0]

    def close(self) -> None:
        """Send what is pending, and finish."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def _saved_id(self) -> str | None:
        try:
            content = json.loads((self._folder / ID_FILE).read_bytes())
            return str(content["id"]) if content["project"] == self._project else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
