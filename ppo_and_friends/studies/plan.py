"""The runs of a study, where each is kept, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppo_and_friends.common.plain_json import read_json
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.reporting.progress_csv import parse_rows
from ppo_and_friends.runs.checkpoint import load_latest
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.saved_experiment import saved_settings
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.overrides import differences
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.studies.sweep import Sweep, file_name

FREE = (
    "num_timesteps",
    "device",
    "checkpoint_seconds",
    "keep_checkpoints",
    "exact_resume",
    "reward_threshold",
)
"""Settings in which a saved run may differ from the one asked for."""

OWN = ("__random_seed", "__run_folder", "__state_path", "__run_name", "__clobber", "__help", "_h")
"""Options that a study's file can't give to its runs, with underscores throughout."""

TAIL = 65536
"""Bytes at the end of ``progress.csv`` that are read for the last row."""

Build = Callable[[Sequence[str]], Experiment]
"""From arguments of the command line to the experiment they describe."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    label: str
    """Variant and seed, for people."""

    arguments: tuple[str, ...]
    """Of the command line that trains it."""

    folder: Path
    """Where it is kept."""

    experiment: Experiment
    """What these arguments describe."""

    variant: str = ""
    """Name of its settings; runs of one variant differ in the seed alone."""

    @property
    def total(self) -> int:
        """Agent steps of the whole run."""
        return self.experiment.num_timesteps


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    timesteps: int = 0
    """Agent steps so far."""

    score: float = float("nan")
    """Mean score of the last 100 episodes."""

    seconds: float = 0.0
    """Training time."""


def plan_runs(
    sweep: Sweep, folder: Path, arguments: Sequence[str], build: Build, *, full_names: bool = False
) -> list[StudyRun]:
    """All runs of a study, seeds outermost, so that all variants have a first result early.

    Args:
        sweep: The study.
        folder: Where it is kept: a run in ``<variant>/seed-N``, with several environments in
            ``<environment>/<variant>/seed-N``.
        arguments: Of the command line, for all runs.
        build: Makes an experiment of arguments, and checks them.
        full_names: Whether variants' names also tell what all have in common.

    Raises:
        UsageError: A name or a value is wrong.
    """
    _check_own(sweep)
    runs = []
    points = sweep.points(full_names=full_names)
    timesteps = [] if sweep.num_timesteps is None else [f"--num_timesteps={sweep.num_timesteps}"]
    for seed in sweep.all_seeds():
        for environment in sweep.environments:
            place = folder / file_name(environment) if len(sweep.environments) > 1 else folder
            for name, point in points.items():
                home = place / name / f"seed-{seed}"
                given = (
                    f"--environment={environment}", *timesteps, *arguments, *sweep.arguments_, *point,
                    f"--random_seed={seed}",
                )  # fmt: skip
                variant = name if len(sweep.environments) == 1 else f"{environment} {name}"
                runs.append(
                    StudyRun(
                        f"{variant} seed {seed}",
                        (*given, f"--run_folder={home}"),
                        home,
                        build(given),
                        variant,
                    )
                )
    if not runs:
        raise UsageError("The study has no runs: give at least one environment and one seed.")
    return runs


def _check_own(sweep: Sweep) -> None:
    """Refuse what a study itself gives to each of its runs."""
    named = [sweep.set, sweep.grid, *(variant.set for variant in sweep.variants.values())]
    if any("random_seed" in names for names in named):
        raise UsageError("random_seed: a study's seeds are given by --seeds, in a file by seeds.")
    for text in sweep.arguments_:
        if text.partition("=")[0].replace("-", "_") in OWN:
            raise UsageError(f"arguments: {text}: a study's runs have their own, so leave it out.")


def is_finished(run: StudyRun) -> bool:
    """Whether a run already has its timesteps.

    Raises:
        UsageError: Its folder holds a run of other settings.
    """
    try:
        checkpoint = load_latest(run.folder / "checkpoints", check_contents)
    except CheckpointError:
        return False  # the run itself says what is wrong
    if checkpoint is None:
        return False
    try:
        saved = saved_settings(read_json(run.folder / "experiment.json"))
    except (OSError, ValueError):
        return False
    found = differences(saved, experiment_settings(run.experiment))
    changed = [name for name in found if name not in FREE]
    if changed:
        old, new = found[changed[0]]
        raise UsageError(
            f"{run.folder} was trained with other settings: {changed[0]} is {new!r} (saved: {old!r}). "
            "Choose another --state_path, or remove that folder."
        )
    return checkpoint.timesteps >= run.total


def progress_of(folder: Path) -> Progress:
    """How far a run is, by the last row of its ``progress.csv``; never raises."""
    try:
        with open(RunFolder(folder).progress, "rb") as file:
            header = file.readline()
            size = file.seek(0, 2)
            start = max(len(header), size - TAIL)
            file.seek(start)
            tail = file.read()
        if start > len(header):
            tail = tail.partition(b"\n")[2]
        _, rows = parse_rows(header + tail[: tail.rfind(b"\n") + 1])
        last = rows[-1]
        score = last.get("episode_return_mean_100") or last.get("episode_return_mean") or "nan"
        return Progress(int(last["timesteps"]), float(score), float(last["seconds"] or 0))
    except (OSError, ValueError, KeyError, IndexError):
        return Progress()
