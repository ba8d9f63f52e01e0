"""The command line's options for more than one run; they stand beside those for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ppo_and_friends.cli.options import Count, Options, Texts
from ppo_and_friends.errors import UsageError

ONLY_STUDIES = ("jobs", "group", "slurm")
"""Options that have no effect without a study."""


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
    combinations. Put a value that contains commas in brackets."""

    jobs: Count = None
    """Number of a study's runs to train at once (default: the number of cores)."""

    group: Count = None
    """Under mpirun: ranks for each run of a study (default: all ranks, one run after another)."""

    slurm: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[OPTION ...]", help_behavior_hint="")] = (
        None
    )
    """Don't train, but write the study as a Slurm job array, with these options of sbatch, such as
    time=2:00:00 partition=cpu."""

    pack: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Pack a run's policy into one file, with its settings, scores and a model card."""

    pack_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The file to pack into; not given: <environment>.zip in the run's folder."""

    push: Annotated[str | None, tyro.conf.arg(metavar="USER/NAME", help_behavior_hint="")] = None
    """Upload what --pack made to this repository of the Hugging Face hub."""

    init_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Begin with the policy and the normalisers of this run's folder or packed file. --with InitFrom:run=...
    has more choices."""

    tune: Count = None
    """Tune the environment's settings over N trials, and write a launcher with the best ones."""

    tune_timesteps: Count = None
    """Agent steps of a trial (default: a fifth of the run's)."""

    tune_space: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The settings to tune and their values, as a YAML file; not given: a space that suits PPO, which is
    printed."""

    compare: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[RUNS ...]", help_behavior_hint="")] = ()
    """Compare groups of runs, given by folders or quoted globs: interquartile means, bootstrap intervals,
    probabilities of improvement, and whether there are enough seeds to tell. Of two single runs,
    without --compare_file: where they first differ, bit for bit."""

    compare_column: Annotated[str, tyro.conf.arg(metavar="COLUMN")] = "episode_return_mean_100"
    """The score to compare by: any column of progress.csv, of which the last value counts."""

    compare_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Where to write the comparison, without extension; not given: beside the runs."""

    @property
    def watching_friends(self) -> tuple[str, ...]:
        """The friends that other options than ``--with`` add."""
        start = () if self.init_from is None else (f"InitFrom:run={self.init_from}",)
        return (*super().watching_friends, *start)

    @property
    def of_runs(self) -> bool:
        """Whether it is about runs that are there, given by their folders."""
        return super().of_runs or bool(self.compare) or self.pack is not None

    @property
    def of_study(self) -> bool:
        """Whether it is about several runs to train."""
        return self.study is not None or self.seeds is not None or bool(self.grid)


def check_study(options: AllOptions) -> None:
    """Refuse options of studies that don't go together.

    Raises:
        UsageError: Names them.
    """
    needs: tuple[tuple[str, str, object], ...] = (
        ("push", "pack", options.pack),
        ("pack_file", "pack", options.pack),
    )
    for name, needed, value in needs:
        if getattr(options, name) is not None and value is None:
            raise UsageError(f"--{name} needs --{needed}.")
    if options.tune is None:
        for name in ("tune_timesteps", "tune_space"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is for tuning: add --tune N.")
    elif options.of_study or options.num_test_runs is not None or options.run_folder is not None:
        raise UsageError(
            "--tune stands alone: leave out --seeds, --grid, --study, --num_test_runs, --run_folder."
        )
    if not options.of_study and options.tune is None:
        for name in ONLY_STUDIES:
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is for studies: add --seeds 1-5 or --grid NAME=VALUES.")
        return
    _check_sharing(options)
    if options.tune is not None:
        return
    given: dict[str, object] = {
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
        raise UsageError(f"-e, --seeds and --grid belong in the study's file {options.study}.")


def _check_sharing(options: AllOptions) -> None:
    for name, value in (("--jobs", options.jobs), ("--group", options.group)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: at least 1, not {value}.")
    if options.jobs is not None and options.group is not None:
        raise UsageError(
            "--jobs is for a pool of processes, --group for the ranks of mpirun: give one of them."
        )
