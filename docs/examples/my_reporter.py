"""A reporter that writes a line of JSON for each iteration."""

from __future__ import annotations

import json
from pathlib import Path

from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.reporter import SilentReporter


class JSONLines(SilentReporter):
    """Overrides the methods it needs; the others do nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Receive the run's folder; None if the run is in memory only."""
        self.path = (folder or Path()) / "metrics.jsonl"

    def iteration(self, report: IterationReport) -> None:
        """Called after every iteration, on rank 0. An exception is shown and doesn't stop the training."""
        line = {"timesteps": report.timesteps, "score": report.metric("episode_return_mean")}
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
