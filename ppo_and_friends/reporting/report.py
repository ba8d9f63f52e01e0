"""What is reported of a run and of an iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ppo_and_friends.settings.experiment import Experiment


@dataclass(frozen=True)
class RunStart:
    """What reporters are told before the first iteration."""

    experiment: Experiment
    """What is trained."""

    ranks: int
    """W, the number of ranks."""

    resumed_from: int | None = None
    """The last iteration in the checkpoint that training continues from; None: a new run."""

    resumed_timesteps: int | None = None
    """Agent steps in that checkpoint, if known."""

    notes: Sequence[str] = ()
    """Lines to show at the start."""


@dataclass(frozen=True)
class IterationReport:
    """One iteration of training, as every reporter gets it."""

    iteration: int
    """1 for the first iteration of the run; a resumed run continues counting."""

    timesteps: int
    """Agent steps done so far, over all ranks and all resumes."""

    num_timesteps: int
    """Agent steps of the whole run."""

    seconds: float
    """Training time so far, over all resumes."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Plain numbers by name (friends' as ``friend/metric``); NaN where unknown. Names may change."""

    samples: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Numbers of this rank's last rollout by name, each [n], for histograms; mostly empty."""

    recordings: Mapping[str, Path] = field(default_factory=dict)
    """Videos recorded in this iteration: friend to file; mostly empty."""

    highest: Mapping[str, float] = field(default_factory=dict)
    """The highest value that each metric has had in the run, over all resumes. A mean of the last 100
    episodes counts only once there are 100 (``ppo/episodes.py``)."""

    def metric(self, name: str) -> float:
        """The metric's value, NaN if it is unknown or not there."""
        return float(self.metrics.get(name, math.nan))
