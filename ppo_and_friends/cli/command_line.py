"""How the command line is read: one line for a mistake, near names for a typo."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Sequence
from dataclasses import fields

import tyro

from ppo_and_friends.cli.options import Options
from ppo_and_friends.cli.study_options import AllOptions, check_study
from ppo_and_friends.errors import UsageError, nearest

USAGE = """\
usage: python main.py -e NAME [options]

  python main.py -e CartPole                               train, or go on training
  mpirun -n 8 python main.py -e BipedalWalker-v3           the same on eight cores
  python main.py -e CartPole --num_test_runs 5 --render    watch the trained policy
  python main.py -e CartPole --seeds 1-5 --grid ppo.gamma=0.98,0.99   several runs
  python main.py --list                                    all launchers
  python main.py --help                                    all options"""

OF_TESTS = ("render", "render_gif", "video", "video_episode", "test_explore", "pretrained")
"""Options that do nothing without ``--num_test_runs``."""

FRAME = " ─-│|╭╮╰╯+"
"""What tyro's messages are framed and divided with."""


class HelpShown(Exception):
    """``--help`` was asked for; its argument is the text."""


def parse(arguments: Sequence[str]) -> AllOptions:
    """Read the command line. Underscores and hyphens in option names are the same.

    Args:
        arguments: Without the program's name.

    Raises:
        UsageError: An unknown option (the nearest are named), or a value that doesn't fit.
        HelpShown: With the text that ``--help`` asks for.
    """
    if not arguments:
        raise UsageError(USAGE)
    said, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            options, unknown = tyro.cli(
                AllOptions,
                args=_without_command(arguments),
                prog="main.py",
                description=inspect.getdoc(Options),
                use_underscores=True,
                return_unknown_args=True,
            )
    except SystemExit as done:
        if done.code in (0, None):
            raise HelpShown(said.getvalue().rstrip()) from None
        raise UsageError(_one_line(complaint.getvalue())) from None
    if unknown:
        raise _unknown(unknown[0])
    _check(options)
    return options


def _without_command(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command ``study`` written as an option."""
    if arguments[0] == "study":
        return ["--study", *arguments[1:]]
    return list(arguments)


def _check(options: AllOptions) -> None:
    """Refuse what each option alone can't know."""
    for name in OF_TESTS:
        if getattr(options, name) and options.num_test_runs is None:
            raise UsageError(f"--{name} is for tests: add --num_test_runs N.")
    if options.num_test_runs is not None and options.num_test_runs < 1:
        raise UsageError(f"--num_test_runs: at least 1, not {options.num_test_runs}.")
    check_study(options)
    if options.environment is None and not (
        options.list or options.list_friends or options.of_runs or options.study
    ):
        raise UsageError("Which environment? Give one with -e NAME; --list shows the launchers.")


def _unknown(word: str) -> UsageError:
    if not word.startswith("-"):
        return UsageError(f"{word!r} belongs to no option. Is a name missing before it? See --help.")
    names = [f"--{each.name.rstrip('_')}" for each in fields(AllOptions)] + ["--no_tensorboard", "--help"]
    name = word.partition("=")[0]
    near = ", ".join(nearest(name.replace("-", "_").replace("__", "--", 1), names))
    return UsageError(f"{name}: no such option. Did you mean {near}? See --help.")


def _one_line(message: str) -> str:
    """What matters in tyro's framed message: the first paragraph below its title."""
    paragraphs: list[list[str]] = [[]]
    for line in message.splitlines():
        words = line.strip(FRAME)
        if words:
            paragraphs[-1].append(words)
        elif paragraphs[-1]:
            paragraphs.append([])
    told = [" ".join(paragraph) for paragraph in paragraphs if paragraph]
    text = (told[1] if len(told) > 1 else "".join(told)) or "The command line can't be read"
    for none in ("'None', ", ", 'None'"):  # what isn't given is no choice
        text = text.replace(none, "")
    return f"{text.removeprefix('Error parsing ').rstrip(' .')}. See --help."
