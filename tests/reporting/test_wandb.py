"""Weights & Biases: through a stand-in for the package, and really, offline, where it is installed."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ppo_and_friends.api.training import train
from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.cli.main import main
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.composite import make_reporter
from ppo_and_friends.reporting.labels import Labels
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.tensorboard import tag_of
from ppo_and_friends.reporting.wandb import WandbReporter, require_wandb
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
from tests.agents.toys import squad

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"), random_seed=3)


class Run:
    """A run as the reporter uses it."""

    def __init__(self, id: str, fail: bool) -> None:
        self.id, self.fail = id, fail
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.finished = 0

    def define_metric(self, *arguments: Any, **named: Any) -> None:
        pass

    def log(self, content: dict[str, Any]) -> None:
        if self.fail:
            raise ConnectionError("no route")
        self.logged.append(content)

    def finish(self) -> None:
        self.finished += 1


class StandIn(types.ModuleType):
    """The package, with the calls it got."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__("wandb")
        self.fail = fail
        self.inits: list[dict[str, Any]] = []
        self.runs: list[Run] = []

    def init(self, **named: Any) -> Run:
        self.inits.append(named)
        self.runs.append(Run(named["id"] or f"new{len(self.runs)}", self.fail))
        return self.runs[-1]

    @staticmethod
    def Settings(**named: Any) -> dict[str, Any]:  # noqa: N802
        return named

    @staticmethod
    def Histogram(values: Any, num_bins: int) -> tuple[int, int]:  # noqa: N802
        return len(values), num_bins


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def report(iteration: int, **metrics: float) -> IterationReport:
    samples = {"advantages": np.arange(5.0), "rewards/icm": np.zeros(0)}
    return IterationReport(iteration, 100 * iteration, 1000, 1.0, metrics, samples)


def track(folder: Path, iterations: range, resumed_from: int | None = None, project: str = "mine") -> None:
    reporter = WandbReporter(folder, project)
    reporter.start(RunStart(EXPERIMENT, 2, resumed_from))
    for i in iterations:
        reporter.iteration(
            report(i, episode_return_mean=float(i), episode_return_mean_100=2.0 * i, kl=math.nan)
        )
    reporter.finish("Trained.\nMore.")
    reporter.close()
    reporter.close()


def test_what_is_logged(tmp_path: Path, package: StandIn) -> None:
    track(tmp_path / "run", range(1, 3))
    (asked,), (run,) = package.inits, package.runs
    assert (asked["project"], asked["id"], asked["resume"]) == ("mine", None, None)
    assert asked["name"] == "Toy seed 3" and asked["dir"] == str(tmp_path / "run")
    assert "reinit" not in asked["settings"]  # so that it is `wandb.run`, too
    assert asked["config"]["ppo.clip_range"] == 0.2 and asked["config"]["ranks"] == 2
    assert run.logged[0] == {
        "episode/return_mean": 1.0, "episode/return_mean_100": 2.0,
        "histograms/advantages": (5, 64), "timesteps": 100, "iteration": 1,
    }  # fmt: skip
    assert run.summary == {"episode/return_mean_100": 4.0, "outcome": "Trained."}
    assert run.finished == 1


def test_a_resumed_run_keeps_its_id(tmp_path: Path, package: StandIn) -> None:
    track(tmp_path, range(1, 3))
    track(tmp_path, range(3, 5), resumed_from=2)
    assert package.inits[1]["id"] == "new0" and package.inits[1]["resume"] == "allow"
    track(tmp_path, range(3, 5), resumed_from=2, project="another")
    assert package.inits[2]["id"] is None
    track(tmp_path, range(1, 2))
    assert package.inits[3]["id"] is None
    assert json.loads((tmp_path / "wandb.json").read_text()) == {"id": "new3", "project": "mine"}


def test_a_writer_that_fails_warns_once(tmp_path: Path, package: StandIn) -> None:
    package.fail = True
    said = io.StringIO()
    reporter = make_reporter(tmp_path, True, verbosity=-1, tensorboard=False, wandb="mine", file=said)
    reporter.start(RunStart(EXPERIMENT, 1))
    for i in (1, 2, 3):
        reporter.iteration(report(i, episode_return_mean=1.0))
    reporter.close()
    warned = [line for line in said.getvalue().splitlines() if line.startswith("Warning:")]
    assert warned == [
        "Warning: WandbReporter failed (ConnectionError: no route); training goes on without it"
    ]
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 4


def test_without_the_package_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="pip install wandb"):
        require_wandb()


def test_the_option() -> None:
    assert parse(["-e", "CartPole"]).wandb is None
    assert parse(["-e", "CartPole", "--wandb"]).wandb == "ppo-and-friends"
    assert parse(["--wandb", "mine", "-e", "CartPole"]).wandb == "mine"
    with pytest.raises(UsageError, match="one project"):
        parse(["-e", "CartPole", "--wandb", "mine", "yours"])


def test_each_of_several_policies_has_a_run_in_the_group_of_all(tmp_path: Path, package: StandIn) -> None:
    chosen = squad(agents={"policies": {"agent_0": "scout", "*": "team"}})
    chosen = replace(chosen, name="Squad", num_timesteps=240)
    train(chosen, tmp_path, wandb="mine", tensorboard=False, verbosity=-1)
    asked = [(each["name"], each["group"], Path(each["dir"]).name) for each in package.inits]
    assert asked[0] == (f"Squad scout seed {chosen.random_seed}", "Squad", "scout")
    assert asked[1][0].startswith("Squad team seed") and asked[1][1:] == ("Squad", "team")
    assert [each["settings"]["reinit"] for each in package.inits] == ["create_new"] * 2
    assert [len(run.logged) > 0 and run.finished for run in package.runs] == [1, 1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the extra [track] is not installed")
def test_the_real_package_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = ["-e", "CartPole", "--state_path", str(tmp_path), "--wandb", "--no_tensorboard", "--quiet"]
    folder = tmp_path / "CartPole"
    assert main([*command, "--num_timesteps", "1000"]) == 0
    first = json.loads((folder / "wandb.json").read_text())["id"]
    assert main([*command, "--num_timesteps", "2000"]) == 0
    assert json.loads((folder / "wandb.json").read_text())["id"] == first
    recorded = list((folder / "wandb").glob(f"offline-run-*-{first}/run-{first}.wandb"))
    assert recorded and all(path.stat().st_size > 1000 for path in recorded)


def test_entity_group_tags_and_notes(
    tmp_path: Path, package: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(project: str, labels: Labels | None = None) -> tuple[Any, ...]:
        WandbReporter(tmp_path, project, labels).start(RunStart(EXPERIMENT, 1))
        return tuple(package.inits[-1][name] for name in ("entity", "project", "group", "tags", "notes"))

    assert asked("team/mine", Labels("warm", ("a", "b"), "new")) == (
        "team",
        "mine",
        "warm",
        ("a", "b"),
        "new",
    )
    assert asked("mine") == (None, "mine", "Toy", None, None)  # then WANDB_TAGS and WANDB_NOTES count
    monkeypatch.setenv("WANDB_RUN_GROUP", "elsewhere")
    assert asked("mine")[2] == "elsewhere" and asked("mine", Labels("warm"))[2] == "warm"


def test_the_documented_sweep_starts_runs_with_its_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    sweep = yaml.safe_load(text.split("# wandb_sweep.yaml\n")[1].split("```")[0])
    chosen = [f"{name}=0.98" for name in sweep["parameters"]]
    words = [word for each in sweep["command"] for word in (chosen if "args" in each else [each])]
    assert words[:2] == ["python", "main.py"]
    options = parse(words[2:])
    assert options.wandb == "ppo-and-friends" and options.run_name == "{changes}"
    assert options.set == ("ppo.learning_rate=0.98", "ppo.gamma=0.98")
    assert sweep["metric"]["name"] == tag_of("episode_return_mean_100")
