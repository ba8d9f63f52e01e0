"""Runs that are compared: found by folder or glob, as scores by environment and seed."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.grouping import grouped
from ppo_and_friends.reporting.run_record import Run, load_run

Array = NDArray[np.float64]

POINTS = 50
"""Points of a curve."""


@dataclass(frozen=True)
class Group:
    """Runs under one name."""

    name: str
    runs: dict[str, list[Run]]
    """Environment to its runs, in the order of their folders."""


@dataclass(frozen=True)
class Comparison:
    """Scores of several groups, aligned."""

    scores: dict[str, Array]
    """Group to scores [runs, environments] at the same number of timesteps."""

    raw: dict[str, Array]
    """The same before scores were normalised."""

    curves: dict[str, Array]
    """Group to scores [runs, environments, points] along the runs."""

    share: Array
    """[points], in (0, 1]: the share of the compared timesteps at each point."""

    environments: tuple[str, ...]
    timesteps: dict[str, int]
    """Environment to the timesteps at which scores are compared."""

    normalised: bool
    """Whether scores of an environment were scaled to [0, 1]."""

    notes: tuple[str, ...]
    """What a reader should know."""


def find_group(pattern: str) -> Group:
    """The runs in a folder, at any depth, or in all folders that a glob matches.

    Raises:
        UsageError: There are none.
    """
    places = [Path(pattern)] if Path(pattern).exists() else [Path(one) for one in glob.glob(pattern)]
    found = {path.resolve(): path for place in sorted(places) for path in _run_folders(place)}
    runs: dict[str, list[Run]] = {}
    for folder in sorted(found.values()):
        run = load_run(folder)
        runs.setdefault(str(run.settings.get("name", "unknown")), []).append(run)
    if not runs:
        raise UsageError(f"--compare {pattern}: there are no runs (folders with a progress.csv).")
    return Group(re.sub(r"(/seed-\*)?[/*]*$", "", pattern), runs)


def _run_folders(place: Path) -> list[Path]:
    if (place / "progress.csv").is_file():
        return [place]
    return [path.parent for path in place.rglob("progress.csv")] if place.is_dir() else []


def align(groups: Sequence[Group], column: str = "episode_return_mean_100") -> Comparison:
    """Scores of the environments that all groups have, at the same timesteps.

    Args:
        groups: At least two.
        column: Of ``progress.csv``.

    Raises:
        UsageError: There is no common environment, or a run lacks the column.
    """
    common = sorted(set.intersection(*(set(group.runs) for group in groups)))
    if not common:
        told = "; ".join(f"{group.name}: {', '.join(group.runs)}" for group in groups)
        raise UsageError(f"--compare needs runs of the same environment. There are: {told}.")
    notes = [
        f"{group.name}: {name} is left out, since not all have it."
        for group in groups
        for name in sorted(set(group.runs) - set(common))
    ]
    timesteps = {}
    for name in common:
        ends = [_points(run, column)[0][-1] for group in groups for run in group.runs[name]]
        timesteps[name] = int(min(ends))
        if min(ends) < 0.98 * max(ends):
            notes.append(
                f"{name}: compared at {min(ends):,.0f} timesteps, where the shortest run ends (the longest: "
                f"{max(ends):,.0f})."
            )
    share = np.arange(1, POINTS + 1) / POINTS
    raw_curves: dict[str, Array] = {}
    for group in groups:
        counts = {name: len(group.runs[name]) for name in common}
        fewest = min(counts.values())
        if max(counts.values()) > fewest:
            notes.append(f"{group.name}: {fewest} runs of each environment are used ({counts}).")
        for name in common:
            if len(grouped(group.runs[name])) > 1:
                notes.append(f"{group.name}: its runs of {name} differ in more than the seed.")
        tables = [
            [np.interp(share * timesteps[name], *_points(run, column)) for run in group.runs[name][:fewest]]
            for name in common
        ]
        raw_curves[group.name] = np.array(tables).transpose(1, 0, 2)
    raw = {name: table[:, :, -1] for name, table in raw_curves.items()}
    low, high = np.zeros(len(common)), np.ones(len(common))
    if len(common) > 1:
        everything = np.concatenate(list(raw.values()))
        low, high = everything.min(0), everything.max(0)
    scale = np.where(high > low, high - low, 1.0)
    return Comparison(
        scores={name: (table - low) / scale for name, table in raw.items()},
        raw=raw,
        curves={name: (table - low[:, None]) / scale[:, None] for name, table in raw_curves.items()},
        share=share,
        environments=tuple(common),
        timesteps=timesteps,
        normalised=len(common) > 1,
        notes=tuple(notes),
    )


def _points(run: Run, column: str) -> tuple[Array, Array]:
    """Timesteps and values where both are known."""
    if column not in run.columns:
        known = ", ".join(sorted(run.columns))
        raise UsageError(f"{run.folder} has no column {column}. There are: {known}.")
    across, values = run.columns["timesteps"], run.columns[column]
    known_points = np.isfinite(across) & np.isfinite(values)
    if not known_points.any():
        raise UsageError(f"{run.folder}: {column} is unknown in all iterations; train it longer.")
    return across[known_points], values[known_points]
