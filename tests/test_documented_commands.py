"""Commands, names, files and messages that the documentation mentions exist."""

from __future__ import annotations

import ast
import math
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.errors import PPOError
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS, find_friend, make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.settings.overrides import apply_settings, setting_names
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.faults import fault
from ppo_and_friends.vector.ranges import reason
from tests.command_line import SMALL, run

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("settings.md", "metrics.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = re.compile(r"(?:python main\.py|ppo-and-friends) (.*)$")
CODE_BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Arguments of every command for this program on a page, which stand in indented blocks."""
    lines = re.sub(r"\\\n\s+", " ", page.read_text(encoding="utf-8")).splitlines()
    found = [match[1] for line in lines if line.startswith("    ") and (match := PROGRAM.search(line))]
    return [text.replace("$seed", "1") for text in found]


def example_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows."""
    for name, text in CODE_BLOCK.findall(page.read_text(encoding="utf-8")):
        (folder / name).write_text(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(ROOT)
    for text in commands(page):
        arguments = shlex.split(text, comments=True)
        if "--help" in arguments:
            continue
        options = parse(arguments)
        if options.environment is not None:
            experiment = apply_options(resolve(options.environment), options)
            FriendGroup([make_friend(spec) for spec in experiment.friends])


def test_the_commands_about_own_environments_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "own_environments.md"
    example_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for environments in processes of their own
    monkeypatch.chdir(tmp_path)
    ran = 0
    for text in commands(page):
        arguments = [word for word in shlex.split(text) if word != "--clobber"]
        small = () if "--num_test_runs" in text else ("--num_timesteps=300", "--clobber", *SMALL)
        done = run(*arguments, *small)
        assert done.status == 0, (text, done.err)
        ran += 1
    assert ran >= 7


def test_the_examples_of_curricula_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "curriculum.md"
    example_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = [text for text in commands(page) if "hardcore_later" in text or "my_stages" in text]
    for place, text in enumerate(own):
        done = run(*shlex.split(text), "--num_timesteps=1", f"--state_path={tmp_path / str(place)}", *SMALL)
        assert done.status == 0, (text, done.err)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_and_file_that_is_mentioned_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    settings = {*setting_names(resolve("CartPole")), *setting_names(resolve("BreakoutPixels"))}
    sections = {name.partition(".")[0] for name in settings if "." in name}
    for name in re.findall(rf"`((?:{'|'.join(sections)})(?:\.[a-z_]+)+)`", text):
        if not name.endswith(".py"):
            assert name in settings, name
    of_a_package = set(re.findall(r'^(\w+) = "', text, re.MULTILINE))  # entry points that a page shows
    for name in re.findall(r"--with(?:out)?[ =]\"?([A-Z]\w+)", text):
        assert name in {*BUILT_IN, *STARTING_POINTS, *OF_AGENTS, *of_a_package}, name
    for name in re.findall(r"`([\w./]+\.(?:py|sh|toml|txt))`", text):
        # Names without a folder are files that a run writes, or that a reader makes.
        places = (ROOT / name, ROOT / "ppo_and_friends" / name)
        assert "/" not in name or any(place.exists() for place in places), name


WRONG = ("ppo.clip=0.1", "ppo.gamma=2")
WILD = "\0"
"""In a message, anything: what the page leaves out with dots, or what the program fills in."""


def test_messages_in_the_troubleshooting_page_are_the_programs() -> None:
    """Each message is one of the code's strings with its values filled in, to the letter."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    said = {
        template
        for folder in ("ppo_and_friends", "environments")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant | ast.JoinedStr)
        if 8 < len(template := _template(node)) < 500 and " " in template
    }
    # Only rows that begin with a message; `explained_variance` and such aren't any.
    messages = [each for each in re.findall(r"^\| `([^`]+)`[^|]*\|", text, re.MULTILINE) if " " in each]
    assert len(messages) > 20
    of_parts = {_raised(partial(apply_settings, resolve("CartPole"), [each])) for each in WRONG}
    of_parts |= {
        _raised(partial(find_friend, "KLEarly")),
        str(fault(3, 120, "reward", f"nan {reason(math.nan)}")),
    }
    said |= of_parts
    assert [each for each in messages if not any(_is_said(each, template) for template in said)] == []


@pytest.mark.parametrize(
    ("message", "template", "expected"),
    [
        ("No trained policy in ...", f"No trained policy in {WILD}.\\nGive the folder of a run", True),
        ("No trained policy at ...", f"No trained policy in {WILD}.\\nGive the folder of a run", False),
        ("rank 3 on ... has no GPU", f"rank {WILD} on {WILD} has no GPU, but others do", True),
        ("rank 3 on ... has a GPU", f"rank {WILD} on {WILD} has no GPU, but others do", False),
        ("one two three", f"{WILD} {WILD}: {WILD}", False),  # everything would fit
    ],
)
def test_a_message_is_compared_to_the_letter(message: str, template: str, expected: bool) -> None:
    assert _is_said(message, template) is expected


def _raised(work: Callable[[], Any]) -> str:
    with pytest.raises(PPOError) as raised:
        work()
    return str(raised.value)


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else WILD


def _is_said(message: str, template: str) -> bool:
    """Whether a part of what ``template`` can become is ``message``, by two fifths of its own letters."""
    longest = max(re.split(r"\.\.\.|'[^']*'|[\d,]+|\[[^]]*\]", message), key=len)
    if longest not in template:
        return False  # soon said, since there are many
    message = message.replace("...", WILD)
    least = 0.4 * sum(letter != WILD for letter in message)
    # For each place of the template, the most letters that can be equal up to there; None: it can't be.
    best: list[int | None] = [0] * (len(template) + 1)
    for letter in message:
        now: list[int | None] = [None] * (len(template) + 1)
        for place in range(len(template) + 1):
            found = [best[place], now[place - 1] if place else None] if letter == WILD else []
            if place and letter != WILD and template[place - 1] == letter:
                found.append(None if (before := best[place - 1]) is None else before + 1)
            if place and template[place - 1] == WILD:
                found += [best[place], best[place - 1], now[place - 1]]
            now[place] = max((each for each in found if each is not None), default=None)
        best = now
    return max((each for each in best if each is not None), default=0) >= least
