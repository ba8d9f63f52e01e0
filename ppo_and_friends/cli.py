"""The command line. Nothing heavy is imported before it is known what to do."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ppo_and_friends.errors import UsageError
from ppo_and_friends.experiment import Experiment

Count = Annotated[int | None, tyro.conf.arg(metavar="N")]
Texts = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class Options:
    """Train an agent with PPO, or test a trained one.

    The same command runs on one core, under mpirun and under srun. Running it again goes on where
    the last run stopped, up to the asked number of timesteps.
    """

    environment: Annotated[str | None, tyro.conf.arg(aliases=("-e",), metavar="NAME")] = None
    """A launcher (CartPole), a versioned id (BipedalWalker-v3), or any registered Gymnasium id."""

    num_timesteps: Count = None
    """Agent steps of the whole run, over all ranks and resumes (default: the launcher's)."""

    num_envs: Count = None
    """Environments over all ranks (default: the launcher's)."""

    random_seed: Count = None
    """Everything random in the run follows from it (default: the launcher's)."""

    state_path: Path = Path("saved_states")
    """Runs are kept in STATE_PATH/<launcher name>."""

    clobber: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Start over: remove the saved run of this environment first."""

    device: Literal["auto", "cpu", "cuda"] | None = None
    """Where the networks live (auto: CUDA for images, if it is there)."""

    set: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change any setting, such as ppo.clip=0.1, network.actor_hidden=64,64 or ppo.learning_rate=1e-3:0."""

    with_: Annotated[Texts, tyro.conf.arg(name="with", metavar="FRIEND")] = ()
    """Add a friend, such as KLEarlyStop:target=0.02 or my_package.my_module:MyFriend."""

    without: Annotated[Texts, tyro.conf.arg(metavar="FRIEND")] = ()
    """Remove one of the launcher's friends."""

    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show all launchers."""

    list_friends: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show all friends with their arguments and sources."""

    num_test_runs: Count = None
    """Test the saved policy for N episodes on the canonical environment instead of training."""

    test_explore: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """In a test, draw actions from the policy instead of taking the most probable."""

    render: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """In a test, open a window."""

    render_gif: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """In a test, write the best episode to episode.gif in the run's folder; needs no display."""

    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """In a test, write the best episode to this file (.gif or .mp4); needs no display."""

    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Allow loading a saved experiment that holds code (lambdas, local classes)."""

    tensorboard: bool = True
    """Write event files for TensorBoard."""

    verbose: Annotated[bool, tyro.conf.arg(aliases=("-v",)), tyro.conf.FlagCreatePairsOff] = False
    """Print every iteration with all its numbers."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=("-q",)), tyro.conf.FlagCreatePairsOff] = False
    """Print warnings and errors only."""

    @property
    def verbosity(self) -> int:
        """-1, 0 or 1."""
        return int(self.verbose) - int(self.quiet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None: the process's own.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake in the request, 130 after Ctrl-C.
    """
    from ppo_and_friends.launch import guard, launcher_rank, make_communicator
    from ppo_and_friends.solo_communicator import SoloCommunicator

    given = list(sys.argv[1:] if arguments is None else arguments)
    # What is wrong with the command line is wrong on every rank: one of them says so.
    quiet = launcher_rank() != 0
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        try:
            options = tyro.cli(Options, args=given, prog="main.py", console_outputs=not quiet)
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 2
        try:
            if options.list or options.list_friends:
                if not quiet:
                    _show_lists(options)
                return 0
            experiment = asked_experiment(options)
        except UsageError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    with guard(SoloCommunicator()):
        communicator = make_communicator()
    from ppo_and_friends.commands import Request, test, train

    request = Request(experiment, options.state_path / experiment.name, tuple(given))
    place: dict[str, str] = {}
    with guard(communicator, lambda: place.get("where", "start")):
        if options.num_test_runs is not None:
            return test(
                request,
                communicator,
                episodes=options.num_test_runs,
                deterministic=not options.test_explore,
                window=options.render,
                video=_video_path(options, request.folder),
                trust=options.trust,
            )
        return train(
            request,
            communicator,
            place,
            clobber=options.clobber,
            verbosity=options.verbosity,
            tensorboard=options.tensorboard,
        )


def asked_experiment(options: Options) -> Experiment:
    """The launcher's experiment with everything that the command line changes.

    Raises:
        UsageError: No or an unknown environment, an unknown setting, a wrong value.
    """
    from ppo_and_friends.overrides import apply_settings, change_friends
    from ppo_and_friends.registry import resolve

    if options.environment is None:
        raise UsageError("Which environment? Give one with -e NAME; --list shows the launchers.")
    if options.num_test_runs is None and (options.render or options.render_gif or options.video):
        raise UsageError("Rendering is for tests: add --num_test_runs N.")
    experiment = change_friends(resolve(options.environment), options.with_, options.without)
    plain = {
        "num_timesteps": options.num_timesteps,
        "environment.num_envs": options.num_envs,
        "random_seed": options.random_seed,
        "device": options.device,
    }
    given = [f"{name}={value}" for name, value in plain.items() if value is not None]
    return apply_settings(experiment, [*given, *options.set])


def _video_path(options: Options, folder: Path) -> Path | None:
    if options.video is not None:
        return options.video
    return folder / "episode.gif" if options.render_gif else None


def _show_lists(options: Options) -> None:
    from ppo_and_friends import listing

    if options.list:
        listing.show_launchers()
    if options.list_friends:
        listing.show_friends()



