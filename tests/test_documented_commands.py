"""Commands, names, files and messages that the documentation mentions exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS, make_friend
from ppo_and_friends.friends.group import FriendGroup
from ppo_and_friends.settings.overrides import setting_names
from ppo_and_friends.settings.registry import resolve
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


def test_messages_in_the_troubleshooting_page_are_the_programs() -> None:
    """Of every message some words stand in the code, one after the other."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    said = "\n".join(
        node.value
        for folder in ("ppo_and_friends", "environments")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    # Only rows that begin with a message; `explained_variance` and such aren't any.
    messages = [each for each in re.findall(r"^\| `([^`]+)`[^|]*\|", text, re.MULTILINE) if " " in each]
    assert len(messages) > 20
    assert [each for each in messages if not _said(each, said)] == [
        "ppo.gamma=2: Input should be less than or equal to 1."  # pydantic's
    ]


def _said(message: str, said: str) -> bool:
    """Whether three words in a row, or all the words between two values, stand in the code."""
    for part in re.split(r"\.\.\.|'\w+'", message):
        words = part.strip(" :").split()
        if len(words) >= 2 and any(" ".join(words[i : i + 3]) in said for i in range(max(1, len(words) - 2))):
            return True
    return False
