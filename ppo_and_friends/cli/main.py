"""The command line. Nothing heavy is imported before it is known what to do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.command_line import HelpShown, parse
from ppo_and_friends.cli.options import BEST, Choice, Options
from ppo_and_friends.cli.output import patient_output
from ppo_and_friends.cli.study_options import AllOptions
from ppo_and_friends.errors import UsageError

if TYPE_CHECKING:
    from ppo_and_friends.distributed.communicator import Communicator
    from ppo_and_friends.settings.experiment import Experiment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None: the process's own.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake in the request, 130 after Ctrl-C.

    Raises:
        SystemExit: With that status, where the run ended by an error.
    """
    with patient_output():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    from ppo_and_friends.distributed.alike_ranks import check_ranks
    from ppo_and_friends.distributed.launch import guard, make_communicator, mpi_launcher_rank
    from ppo_and_friends.distributed.solo_communicator import SoloCommunicator

    given = list(sys.argv[1:] if arguments is None else arguments)
    speaks = mpi_launcher_rank() == 0
    options: AllOptions | UsageError
    try:
        options = parse(given)
    except HelpShown as help:
        return _show(str(help)) if speaks else 0
    except UsageError as error:
        options = error
    if isinstance(options, Options) and (options.list or options.list_friends or options.version):
        return _show(_lists(options)) if speaks else 0
    place: dict[str, str] = {}
    with guard(SoloCommunicator()):
        try:
            communicator = make_communicator()
        except UsageError as error:
            # A problem with the MPI launcher (mpirun, srun) affects every rank: only one reports it.
            if speaks:
                print(error, file=sys.stderr)
            return error.exit_code
    # From here all ranks are together, so that whatever is wrong is said once and ends them all.
    with guard(communicator, lambda: place.get("where", "start")):
        for note in check_ranks(communicator, {"arguments": shlex.join(given)}):
            if communicator.is_main:
                print(note, file=sys.stderr)
        if isinstance(options, UsageError):
            raise options
        return _run(options, tuple(given), communicator, place)


def _run(
    options: AllOptions,
    command_line: tuple[str, ...],
    communicator: Communicator,
    place: dict[str, str],
    results: Path | None = None,
) -> int:
    if options.policy is not None:
        from ppo_and_friends.runs.packed import is_packed, unpacked

        if is_packed(packed := Path(options.policy)):
            with unpacked(packed) as source:
                inside = replace(options, policy=str(source))
                return _run(inside, command_line, communicator, place, packed.with_suffix(""))
    if options.of_runs:
        return _plot_or_report(options, communicator)
    if options.tune is not None:
        from ppo_and_friends.cli.tune import tune_command

        return tune_command(options, communicator)
    if options.of_study:
        from ppo_and_friends.cli.study import study

        return study(options, communicator)
    from ppo_and_friends.settings.overrides import environment_changes
    from ppo_and_friends.settings.registry import launched_as

    if options.environment is None:
        experiment = launched = _saved(options)
    else:
        launched = launched_as(options.environment, environment_changes(options.set))
        experiment = apply_options(launched, options)
    from ppo_and_friends.cli.request import Request
    from ppo_and_friends.cli.test import test
    from ppo_and_friends.cli.train import train
    from ppo_and_friends.policy.pretrained import pretrained_folder

    folder = options.run_folder or options.state_path / _folder_name(options, launched, experiment)
    trained = pretrained_folder(experiment.name) if options.pretrained else None
    if options.policy is not None:
        trained = folder / BEST if options.policy == BEST else Path(options.policy)
        folder = results or _folder_of_results(trained)
    request = Request(
        experiment,
        folder,
        command_line,
        options.environment or "",
        lambda saved: apply_options(saved, options),
        trained,
    )
    if options.export is not None:
        from ppo_and_friends.cli.export import export

        return export(request, communicator, trust=options.trust)
    if options.num_test_runs is not None:
        video, episode = _recording(options, folder)
        return test(
            request,
            communicator,
            episodes=options.num_test_runs,
            deterministic=not options.test_explore and options.opponent in (None, "random"),
            opponent=options.opponent,
            window=options.render,
            video=video,
            video_episode=episode,
            video_steps=options.video_steps,
            trust=options.trust,
        )
    return train(
        request,
        communicator,
        place,
        clobber=options.clobber,
        accept_changes=options.accept_changes,
        verbosity=options.verbosity,
        tensorboard=options.tensorboard,
        wandb=options.wandb,
        mlflow=options.mlflow,
        labels=options.labels,
        reporters=options.report_to,
        stall_timeout=options.stall_timeout,
        grace=options.grace,
        requeues=options.requeue_on_preemption,
    )


def _saved(options: AllOptions) -> Experiment:
    """The experiment of the policy that ``--policy`` names, with the command line's changes."""
    from ppo_and_friends.policy.find import find_policy
    from ppo_and_friends.runs.saved_experiment import load_experiment

    assert options.policy is not None
    _, home = find_policy(options.policy)
    return apply_options(load_experiment(home, options.trust), options)


def _folder_of_results(policy: Path) -> Path:
    """Where a test of a policy writes its results: the policy's folder, or the run's of a checkpoint."""
    from ppo_and_friends.runs.checkpoint import MANIFEST

    return policy.resolve().parents[1] if (policy / MANIFEST).is_file() else policy


def _plot_or_report(options: AllOptions, communicator: Communicator) -> int:
    """Plot or describe saved runs, on rank 0."""
    from ppo_and_friends.cli.plot import plot_or_report

    if communicator.is_main:
        plot_or_report(options)
    communicator.barrier()
    return 0


def _folder_name(options: Options, launched: Experiment, experiment: Experiment) -> str:
    """What the run's folder is called: like the launcher, unless the run has a name of its own."""
    if options.run_name is None:
        return experiment.name
    from ppo_and_friends.settings.run_names import run_name

    return run_name(options.run_name, launched, experiment)


def _recording(options: Options, folder: Path) -> tuple[Path | None, Choice]:
    """Where to record a test, and which of its episodes."""
    choice: Choice = options.video_episode or "best"
    if options.video is None:
        return (folder / "episode.gif" if options.render_gif else None), choice
    for word in get_args(Choice):
        if options.video == word:
            return folder / f"episode_{word}.mp4", word
    return Path(options.video), choice


def _lists(options: Options) -> str:
    from ppo_and_friends.cli import listing

    parts = [listing.version()] if options.version else []
    parts += [listing.launchers()] if options.list else []
    return "\n".join([*parts, listing.friends()] if options.list_friends else parts)


def _show(text: str) -> int:
    """Print a long text, as far as its reader wants it."""
    print(text, flush=True)
    return 0
