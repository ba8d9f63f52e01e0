"""The command line's options for more than one run; they stand beside those for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ppo_and_friends.cli.options import Count, Options, Texts
from ppo_and_friends.errors import UsageError

ONLY_STUDIES = ("jobs", "group", "slurm")
"""Options that do nothing without a study."""


@dataclass(frozen=True)
class AllOptions(Options):
    """All options: those for a run, and those for studies."""

    run_folder: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The run's own folder, instead of STATE_PATH/<launcher name>."""

    study: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Train all runs of a study, described in a YAML or Python file. `study FILE` is the same."""

    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="")] = None
    """Train with several seeds, such as 1-5 or 1,3,7-9, each in a folder of its own."""

    grid: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUES")] = ()
    """Train with several values of a setting, such as ppo.gamma=0.99,0.995; several of these give all
    combinations. A value with commas stands in brackets."""

    jobs: Count = None
    """Runs of a study at once (as many as there are cores)."""

    group: Count = None
    """Under mpirun: ranks of each run of a study (all of them, one run after another)."""

    slurm: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[OPTION ...]", help_behavior_hint="")] = (
        None
    )
    """Don't train, but write the study as a Slurm job array, with these options of sbatch, such as
    time=2:00:00 partition=cpu."""

    @property
    def of_study(self) -> bool:
        """Whether it is about several runs to train."""
        return self.study is not None or self.seeds is not None or bool(self.grid)


def check_study(options: AllOptions) -> None:
    """Refuse options of studies that don't go together.

    Raises:
        UsageError: Names them.
    """
    if not options.of_study:
        for name in ONLY_STUDIES:
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is for studies: add --seeds 1-5 or --grid NAME=VALUES.")
        return
    given = {
        "--random_seed": options.random_seed,
        "--run_folder": options.run_folder,
        "--num_test_runs": options.num_test_runs,
        "--export": options.export,
        "--clobber": options.clobber or None,
    }
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} is for a single run: leave it out of a study.")
    if options.study is not None and (options.seeds is not None or options.grid or options.environment):
        raise UsageError(f"-e, --seeds and --grid belong into the study's file {options.study}.")
    for name, value in (("--jobs", options.jobs), ("--group", options.group)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: at least 1, not {value}.")
    if options.jobs is not None and options.group is not None:
        raise UsageError(
            "--jobs is for a pool of processes, --group for the ranks of mpirun: give one of them."
        )
