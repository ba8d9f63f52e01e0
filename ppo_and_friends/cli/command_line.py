"""How the command line is read: one line for a mistake, near names for a typo."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
from collections.abc import Sequence
from dataclasses import fields

import tyro

from ppo_and_friends.cli.options import BEST, Options
from ppo_and_friends.cli.study_options import AllOptions, check_study
from ppo_and_friends.common.program import CHECKOUT, program
from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.reporting.labels import NO_LABELS

USAGE = """\
usage: python main.py -e NAME [options]

  python main.py -e CartPole                               train, or resume
  mpirun -n 8 python main.py -e BipedalWalker-v3           the same on eight cores
  python main.py -e CartPole --num_test_runs 5 --render    watch the trained policy
  python main.py -e CartPole --seeds 1-5 --grid ppo.gamma=0.98,0.99   several runs
  python main.py --list                                    all launchers
  python main.py --help                                    all options"""

OF_TESTS = (
    "render",
    "render_gif",
    "video",
    "video_episode",
    "video_steps",
    "test_explore",
    "opponent",
    "pretrained",
)
"""Options that have no effect without ``--num_test_runs``."""

OPTIONS_ELSEWHERE = {
    "env": "-e NAME",
    "gym_id": "-e NAME",
    "task": "-e NAME",
    "seed": "--random_seed",
    "steps": "--num_timesteps",
    "timesteps": "--num_timesteps",
    "max_iterations": "--num_timesteps",
    "total_timesteps": "--num_timesteps",
    "logdir": "--state_path",
    "log_dir": "--state_path",
    "exp_name": "--run_name",
    "eval": "--num_test_runs",
    "test": "--num_test_runs",
    "play": "--num_test_runs N --render",
    "resume": "the same command again",
    "track": "--wandb",
    "capture_video": "--video_every",
}
"""What other programs' options are called here."""

SHORT = {
    "num_timesteps": "--num_timesteps",
    "random_seed": "--random_seed",
    "device": "--device",
    "environment.num_envs": "--num_envs",
    "environment.id": "-e NAME",
}
"""Settings with an option of their own."""

ALIKE = 0.6
"""How similar an unknown option must be to a known one to be suggested, by difflib's ratio."""

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
        raise UsageError(USAGE.replace(CHECKOUT, program()))
    _refuse_nothing(arguments)
    said, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            options, unknown = tyro.cli(
                AllOptions,
                args=_each_with_its_option(_without_command(arguments)),
                prog=program(),
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
    if "--compare" in arguments and not options.compare:
        raise UsageError("--compare needs at least two folders (or quoted globs) of runs.")
    _check(options)
    return options


def _refuse_nothing(arguments: Sequence[str]) -> None:
    """Refuse empty values, such as a shell's variable that isn't set: an empty folder is the current one."""
    for before, word in zip(("", *arguments), arguments, strict=False):
        if word == "" or re.fullmatch(r"--[\w-]+=", word):
            name = word.rstrip("=") or before
            raise UsageError(f"{name or 'The first argument'}: the value is empty. See --help.")


def _without_command(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command ``study`` written as an option."""
    if arguments[0] == "study":
        return ["--study", *arguments[1:]]
    return list(arguments)


def _each_with_its_option(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--set`` before each of the settings that follow one."""
    found: list[str] = []
    setting = False
    for index, word in enumerate(arguments):
        value = setting and "=" in word and not word.startswith("-")
        if value and arguments[index - 1] != "--set":
            found.append("--set")
        setting = word == "--set" or value
        found.append(word)
    return found


def _check(options: AllOptions) -> None:
    """Refuse combinations of options that make no sense."""
    for name in OF_TESTS:
        if getattr(options, name) and options.num_test_runs is None:
            raise UsageError(f"--{name} is for tests: add --num_test_runs N.")
    if options.video_steps is not None and options.video_steps < 1:
        raise UsageError(f"--video_steps: at least 1, not {options.video_steps}.")
    if options.num_test_runs is not None and options.num_test_runs < 1:
        raise UsageError(f"--num_test_runs: at least 1, not {options.num_test_runs}.")
    if not 0 <= options.stall_timeout < math.inf:  # NaN fails every comparison
        raise UsageError(f"--stall_timeout: seconds, or 0 for never, not {options.stall_timeout:g}.")
    if options.grace is not None and not 0 <= options.grace < math.inf:
        raise UsageError(f"--grace: seconds, not {options.grace:g}.")
    check_study(options)
    if options.labels != NO_LABELS and options.wandb is None and options.mlflow is None:
        raise UsageError("--track_group, --track_tags and --track_notes need --wandb or --mlflow.")
    if options.policy is not None and options.pretrained:
        raise UsageError("--policy and --pretrained both say what to test: give one of them.")
    if options.policy is not None and options.num_test_runs is None and options.export is None:
        raise UsageError("--policy is for tests and exports: add --num_test_runs N or --export onnx.")
    elsewhere = options.policy not in (None, BEST)  # its experiment is saved with it
    asks = options.list or options.list_friends or options.version or options.of_runs
    if options.environment is None and not (asks or options.study or elsewhere):
        raise UsageError("Which environment? Give one with -e NAME; --list shows the launchers.")


def _unknown(word: str) -> UsageError:
    if not word.startswith("-"):
        return UsageError(f"{word!r} belongs to no option. Is the option's name missing? See --help.")
    names = [f"--{each.name.rstrip('_')}" for each in fields(AllOptions)] + ["--no_tensorboard", "--help"]
    name = word.partition("=")[0]
    meant = _meant(name.lstrip("-").replace("-", "_"))
    if not meant:
        near = nearest(name.replace("-", "_").replace("__", "--", 1), names, cutoff=ALIKE)
        meant = f" Did you mean {', '.join(near)}?" if near else ""
    return UsageError(f"{name}: no such option.{meant} See --help.")


def _meant(name: str) -> str:
    """The option or setting that somebody means by a setting's name, or by another library's for it."""
    if name in OPTIONS_ELSEWHERE:
        return f" Here that is {OPTIONS_ELSEWHERE[name]}."
    from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
    from ppo_and_friends.settings.other_names import note_on, todays_name
    from ppo_and_friends.settings.overrides import setting_names

    known = setting_names(Experiment(name="any", environment=EnvironmentSettings(id="any")))
    found = [each for each in known if each.rpartition(".")[2] == name]
    found = found or [today] if (today := todays_name(name)) else found
    if not found:
        return ""
    if found[0].startswith("friends."):
        _, friend, *argument = found[0].split(".")
        return f" Here that is a friend: --with {friend}{''.join(f':{each}=...' for each in argument)}"
    option = SHORT.get(found[0])
    return (
        f" Here that is {option}."
        if option
        else f" Settings are changed by --set {found[0]}=...{note_on(name)}"
    )


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
    text = text.removeprefix("Error parsing ").rstrip(" .")
    if missing := re.fullmatch(r"Missing value for argument '(?:-\w/)?(--\w+)'.*", text):
        text = f"{missing[1]}: the value is missing"
    elif choice := re.fullmatch(r"invalid choice (.+) for argument '(--\w+)'.*one of \((.*)\)", text):
        names = ", ".join(sorted(re.findall(r"'([^']*)'", choice[3])))
        text = f"{choice[2]}: {choice[1]} is none of: {names}"
    return f"{text}. See --help."
