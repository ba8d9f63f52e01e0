"""Every block of code in the pages about Python and own parts does what it says, with small budgets."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.api.run import Run
from tests.command_line import run
from tests.conftest import ROOT

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = {"ppo.rollout_timesteps": 128, "ppo.minibatch_size": 64, "ppo.epochs": 1}
TIMESTEPS = 500


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of docs/examples as the current folder; runs are short; imports are forgotten afterwards."""
    folder = tmp_path / "examples"
    shutil.copytree(DOCS / "examples", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    begin = Run.__init__

    @wraps(begin)
    def shorter(self: Run, experiment: Any, *arguments: Any, **more: Any) -> None:
        steps = min(TIMESTEPS, experiment.num_timesteps)
        begin(self, experiment.with_changes(SMALL, num_envs=4, num_timesteps=steps), *arguments, **more)

    monkeypatch.setattr(Run, "__init__", shorter)
    yield folder
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / page).read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "least"),
    [("python_api.md", 8), ("own_parts.md", 8), ("several_agents.md", 2), ("action_masks.md", 1)],
)
def test_every_block_runs(page: str, least: int, examples: Path) -> None:
    found = blocks(page)
    text = (DOCS / page).read_text()
    assert len(found) >= least and text.count("```") == 2 * len(found)
    names: dict[str, Any] = {"__name__": "page"}
    for language, code in found:
        if language == "python":
            exec(compile(code, page, "exec"), names)
        elif language == "sh":
            for line in code.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "ppo-and-friends"
                done = run(*arguments)
                assert (done.status, done.err) == (0, ""), (line, done)
        else:
            assert language == "toml"
            assert all(
                group.startswith("ppo_and_friends.")
                for group in tomllib.loads(code)["project"]["entry-points"]
            )


@pytest.mark.slow
def test_what_the_examples_do(examples: Path) -> None:
    """Each of the six parts leaves a trace of its own in the run."""
    own = ("--with=my_friend:Effort:weight=0.5", "--set=network.model=my_model:Residual")
    own += ("--set=environment.wrappers=my_wrapper:CheapEnergy", "--report_to=my_reporter:JSONLines")
    done = run("-e", "my_launcher.py:reach", *own)
    assert (done.status, done.err) == (0, "")
    folder = examples / "saved_states" / "Reach"
    settings = json.loads((folder / "experiment.json").read_text())
    assert settings["plain"] and settings["experiment"]["network"]["model"] == "my_model:Residual"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["timesteps"] for line in lines] == sorted(line["timesteps"] for line in lines) and lines
    assert "Effort/cost" in (folder / "progress.csv").read_text().splitlines()[0]
    # An episode has 50 steps, each with a reward of at most 0, ten times as large with the wrapper.
    plain, wrapped = (
        run("-e", "my_launcher:reach", *more, "--num_test_runs=3", "--set=environment.wrappers=" + wrappers)
        for more, wrappers in ((own[1:2], "[]"), (own[1:2], "my_wrapper:CheapEnergy"))
    )
    assert plain.status == 2 and "environment.wrappers" in plain.err  # other rewards: another environment
    assert (wrapped.status, wrapped.err) == (0, "")
