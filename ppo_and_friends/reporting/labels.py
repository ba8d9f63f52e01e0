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

    part_of: str | None = None
    """Name of the experiment of which this is one of several policies: without another name, their group."""


NO_LABELS = Labels()


def run_title(experiment: Experiment, labels: Labels = NO_LABELS) -> str:
    """What a tracker calls a run."""
    part_of = "" if labels.part_of is None else f"{labels.part_of} "
    return f"{part_of}{experiment.name} seed {experiment.random_seed}"


def group_name(experiment: Experiment, labels: Labels) -> str:
    """The group of a run for which none was named."""
    return labels.part_of or experiment.name
