"""The command that trains a study."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.cli.study_options import AllOptions
from ppo_and_friends.common.program import program
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.launch import mpi_launcher_size
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.overrides import environment_changes
from ppo_and_friends.settings.registry import launched_as
from ppo_and_friends.studies.plan import StudyRun, plan_runs
from ppo_and_friends.studies.sweep import Sweep, as_sweep, load_sweep, parse_grid

if TYPE_CHECKING:
    from ppo_and_friends.api.run import Run

PASSED_ON = (
    "num_envs",
    "device",
    "eval_every",
    "eval_episodes",
    "target_score",
    "video_every",
    "wandb",
    "mlflow",
    "track_group",
    "track_notes",
)
"""Options with a value that hold for every run of a study; further ones stand in `_common`."""


def study(options: AllOptions, communicator: Communicator) -> int:
    """Train a study's runs that aren't finished, or write it as a job array. Called on every rank.

    Returns:
        0; 1 if a run failed; the exit status of a signal that stopped it.

    Raises:
        UsageError: A mistake in the study, said before anything is trained.
    """
    sweep, folder = described(options)
    runs = on_main(communicator, lambda: planned(sweep, folder, options))
    if options.slurm is not None:
        from ppo_and_friends.studies.slurm import write_array

        def write() -> None:
            script = write_array(
                runs, folder, options=options.slurm or (), ranks=options.group, at_once=options.jobs
            )
            print(f"Written: {script}\nSubmit it with: sbatch {shlex.quote(str(script))}")

        on_main(communicator, write)
        return 0
    if communicator.size > 1:
        from ppo_and_friends.studies.rank_groups import train_in_groups

        return train_in_groups(runs, communicator, options.group, folder, _opened)
    if options.group is not None and mpi_launcher_size() == 1:
        raise UsageError(f"--group is for MPI: mpirun -n N {program()} ... --group {options.group}.")
    from ppo_and_friends.studies.pool import StudyPool

    status = StudyPool(runs, options.jobs).train()
    print(f"The runs are in {folder}. Draw them: {program()} --plot {folder}/*/seed-*")
    return status


def described(options: AllOptions) -> tuple[Sweep, Path]:
    """The study that the options ask for, and the folder for its runs.

    Raises:
        UsageError: Its file can't be read, or a value is wrong.
    """
    if options.study is not None:
        return load_sweep(options.study), options.state_path / options.study.stem
    assert options.environment is not None
    values = {
        "environment": options.environment,
        "seeds": "1" if options.seeds is None else options.seeds,
        "grid": parse_grid(options.grid),
        "num_timesteps": options.num_timesteps,
        "set": dict(_assignment(text) for text in options.set),
        "with": options.with_,
        "without": options.without,
    }
    name = launched_as(options.environment, environment_changes(options.set)).name
    return as_sweep(values, "the command line"), options.state_path / f"{name}-study"


def planned(sweep: Sweep, folder: Path, options: AllOptions) -> list[StudyRun]:
    """The study's runs, every experiment checked.

    Raises:
        UsageError: An unknown name or a wrong value.
    """
    from ppo_and_friends.friends.catalog import make_friend

    @cache
    def launched(name: str, of_environment: tuple[str, ...]) -> Experiment:
        return launched_as(name, environment_changes(of_environment))

    def build(arguments: Sequence[str]) -> Experiment:
        given = parse(arguments)
        assert given.environment is not None
        of_environment = tuple(text for text in given.set if text.startswith("environment."))
        experiment = apply_options(launched(given.environment, of_environment), given)
        for spec in experiment.friends:
            make_friend(spec)
        return experiment

    if options.study is not None:  # what the file says is said there; this changes all of it
        extra = [f"--set={text}" for text in options.set]
        extra += [f"--with={text}" for text in options.with_] + [
            f"--without={text}" for text in options.without
        ]
        if extra:
            raise UsageError(f"{extra[0]}: write it into the study's file, so that its folders tell it.")
        if options.num_timesteps is not None:
            sweep = dataclasses.replace(sweep, num_timesteps=options.num_timesteps)
    return plan_runs(sweep, folder, _common(options), build, full_names=options.study is None)


def _common(options: AllOptions) -> list[str]:
    """Arguments of every run, from this command's own options."""
    texts = [f"--{name}={getattr(options, name)}" for name in PASSED_ON if getattr(options, name) is not None]
    texts += [f"--report_to={name}" for name in options.report_to]
    texts += [f"--track_tags={tag}" for tag in options.track_tags]
    if options.exact_resume:
        texts.append("--exact_resume")
    if options.trust:
        texts.append("--trust")
    if not options.tensorboard:
        texts.append("--no_tensorboard")
    return texts


def _opened(run: StudyRun, group: Communicator) -> Run:
    """A run for a group of ranks, reported as its own command line says."""
    from ppo_and_friends.api.run import Run

    options = parse(run.arguments)
    return Run(
        run.experiment,
        run.folder,
        communicator=group,
        verbosity=-1,
        tensorboard=options.tensorboard,
        wandb=options.wandb,
        mlflow=options.mlflow,
        labels=options.labels,
        reporters=options.report_to,
    )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write it as name=value.")
    return name.strip(), value.strip()
