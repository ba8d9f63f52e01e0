"""What trackers are told about a run, besides its settings and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppo_and_friends.settings.experiment import Experiment


@dataclass(frozen=True)
class Labels:
    """By which runs are found again in Weights & Biases and MLflow."""

    group: str | None = None
    """Runs that belong together; None: the experiment's name."""

    tags: tuple[str, ...] = ()
    """Words to filter by."""

    notes: str | None = None
    """A description."""


NO_LABELS = Labels()


def run_title(experiment: Experiment) -> str:
    """What a tracker calls a run."""
    return f"{experiment.name} seed {experiment.random_seed}"
