"""MLflow: through a stand-in for the package, and really, in files, where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.cli.main import main
from ppo_and_friends.cli.study import _common
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.labels import Labels
from ppo_and_friends.reporting.mlflow import MLflowReporter, require_mlflow
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"), random_seed=3)


class Client:
    """MLflow's client as the reporter uses it, with what is stored, on a server that all clients share."""

    experiments: dict[str, str]
    runs: dict[str, dict[str, Any]]

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment_id: str, tags: dict[str, str], run_name: str) -> Any:
        id = f"r{len(self.runs)}"
        self.runs[id] = {"in": experiment_id, "tags": tags, "name": run_name, "params": {}, "metrics": []}
        self.runs[id]["status"] = "RUNNING"
        return SimpleNamespace(info=SimpleNamespace(run_id=id))

    def update_run(self, id: str, status: str) -> None:
        self.runs[id]["status"] = status

    set_terminated = update_run

    def log_batch(self, id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100 and len(metrics) <= 1000
        self.runs[id]["params"] |= dict(params)
        self.runs[id]["metrics"] += [(name, value, step) for name, value, _, step in metrics]

    def set_tag(self, id: str, key: str, value: str) -> None:
        self.runs[id]["tags"][key] = value


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    monkeypatch.setattr(Client, "experiments", {}, raising=False)
    monkeypatch.setattr(Client, "runs", {}, raising=False)
    names = ("mlflow", "mlflow.tracking", "mlflow.entities")
    package, tracking, entities = map(types.ModuleType, names)
    tracking.MlflowClient = Client  # type: ignore[attr-defined]
    entities.Param = entities.Metric = lambda *values: values  # type: ignore[attr-defined]
    for module in (package, tracking, entities):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return Client


def track(folder: Path, iterations: range, resumed_from: int | None = None, **named: Any) -> None:
    reporter = MLflowReporter(folder, "mine", **named)
    reporter.start(RunStart(EXPERIMENT, 2, resumed_from))
    for i in iterations:
        metrics = {"episode_return_mean": float(i), "kl": math.nan}
        reporter.iteration(IterationReport(i, 100 * i, 1000, 1.0, metrics))
    reporter.finish("Trained.\nMore.")
    reporter.close()
    reporter.close()


def test_what_is_logged(tmp_path: Path, server: type[Client]) -> None:
    track(tmp_path / "run", range(1, 4), labels=Labels("warm", ("lr", "first"), "half of it"))
    (run,) = server.runs.values()
    assert server.experiments == {"mine": "e0"} and run["in"] == "e0" and run["name"] == "Toy seed 3"
    assert run["tags"] == {
        "group": "warm", "lr": "true", "first": "true", "mlflow.note.content": "half of it",
        "outcome": "Trained.",
    }  # fmt: skip
    assert run["params"]["ppo.clip_range"] == "0.2" and run["params"]["ranks"] == "2"
    # Of iterations within a second, all are there, in one call at the end.
    assert run["metrics"] == [("episode/return_mean", float(i), 100 * i) for i in (1, 2, 3)]
    assert run["status"] == "FINISHED"


def test_a_resumed_run_keeps_its_id(tmp_path: Path, server: type[Client]) -> None:
    track(tmp_path, range(1, 3))
    track(tmp_path, range(3, 5), resumed_from=2)
    assert list(server.runs) == ["r0"] and len(server.runs["r0"]["metrics"]) == 4
    track(tmp_path, range(1, 2))
    assert list(server.runs) == ["r0", "r1"] and server.experiments == {"mine": "e0"}
    assert server.runs["r1"]["tags"]["group"] == "Toy"
    assert json.loads((tmp_path / "mlflow.json").read_text()) == {"id": "r1", "experiment": "mine"}


def test_an_interrupted_run_is_not_finished(tmp_path: Path, server: type[Client]) -> None:
    reporter = MLflowReporter(tmp_path)
    reporter.start(RunStart(EXPERIMENT, 1))
    reporter.close()
    assert server.runs["r0"]["status"] == "KILLED"


def test_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(["-e", "CartPole"]).mlflow is None
    assert parse(["-e", "CartPole", "--mlflow"]).mlflow == "ppo-and-friends"
    words = ["-e", "CartPole", "--mlflow=mine", "--track_tags=a", "--track_tags=b", "--track_group=g"]
    options = parse([*words, "--seeds=1-2"])
    assert options.labels == Labels("g", ("a", "b"))
    assert _common(options) == ["--mlflow=mine", "--track_group=g", "--track_tags=a", "--track_tags=b"]
    with pytest.raises(UsageError, match="need --wandb or --mlflow"):
        parse(["-e", "CartPole", "--track_tags=a"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="pip install mlflow"):
        require_mlflow()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra [mlflow] is not installed")
def test_the_real_package_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "tracked").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    command = ["-e", "CartPole", "--state_path", str(tmp_path), "--mlflow", "--no_tensorboard", "--quiet"]
    assert main([*command, "--num_timesteps", "1000"]) == 0
    assert main([*command, "--num_timesteps", "2000"]) == 0
    client = MlflowClient()
    experiment = client.get_experiment_by_name("ppo-and-friends")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["environment.id"] == "CartPole-v1"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "episode/return_mean")]
    assert len(steps) >= 2 and steps == sorted(steps)
