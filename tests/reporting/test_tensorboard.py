"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups, plugin_data_pb2
from tensorboard.util import tensor_util
from torch import nn

from ppo_and_friends.evaluation.video import Recorder
from ppo_and_friends.ppo.episodes import Highest
from ppo_and_friends.reporting.hyperparameters import hparams_summaries, hyperparameters
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.tensorboard import TensorBoardReporter, tag_of
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, PPOSettings, friend
from tests.friends.runs import build, experiment

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"))


def write(folder: Path, iterations: range, resumed_from: int | None = None, value: float = 1.0) -> None:
    reporter = TensorBoardReporter(folder)
    timesteps = None if resumed_from is None else 100 * resumed_from
    reporter.start(RunStart(EXPERIMENT, 1, resumed_from, resumed_timesteps=timesteps))
    for i in iterations:
        metrics = {"episode_return_mean": value * i, "kl": math.nan if i == 2 else 0.5, "icm/loss": 0.1}
        reporter.iteration(IterationReport(i, 100 * i, 1000, float(i), metrics))
    reporter.finish("")
    reporter.close()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(point.step, point.value) for point in accumulator.Scalars(tag)]


def test_scalars_over_timesteps(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    assert scalars(tmp_path, "episode/return_mean") == [(100, 1.0), (200, 2.0), (300, 3.0)]
    assert scalars(tmp_path, "policy/kl") == [(100, 0.5), (300, 0.5)]
    assert [step for step, _ in scalars(tmp_path, "icm/loss")] == [100, 200, 300]


def test_quick_iterations_share_a_point_but_the_last_one_is_there(tmp_path: Path) -> None:
    reporter = TensorBoardReporter(tmp_path)
    reporter.start(RunStart(EXPERIMENT, 1))
    nan = math.nan
    for i in range(1, 10):  # 0.08 s each: 0.24 s after the first, again 0.24 s after that, and the end
        # Iteration 3 has the largest return, one episode more than the others, and the only evaluation.
        metrics = {
            "episodes": 2.0 if i == 3 else 1.0,
            "episode_return_mean": float(i), "episode_return_max": 50.0 if i == 3 else 5.0,
            "Evaluator/score": 7.0 if i == 3 else nan, "learning_rate": 1.0 / i, "kl": float(i),
        }  # fmt: skip
        reporter.iteration(IterationReport(i, 100 * i, 1000, 0.08 * i, metrics))
    reporter.finish("")
    reporter.close()
    # Each point is of iterations 1; 2, 3, 4; 5, 6, 7; 8, 9.
    points = {
        "episode/return_mean": [1.0, (2 + 2 * 3 + 4) / 4, 6.0, 8.5],
        "episode/return_max": [5.0, 50.0, 5.0, 5.0],
        "episode/count": [1.0, 4.0, 3.0, 2.0],
        "policy/kl": [1.0, 3.0, 6.0, 8.5],
        "schedule/learning_rate": [1.0, 1 / 4, 1 / 7, 1 / 9],
    }
    for tag, values in points.items():
        assert scalars(tmp_path, tag) == [
            (step, pytest.approx(value)) for step, value in zip((100, 400, 700, 900), values, strict=True)
        ]
    assert scalars(tmp_path, "Evaluator/score") == [(400, 7.0)]


def test_resume_has_no_fold(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    first = next(tmp_path.iterdir())
    first.rename(first.with_name(first.name + ".0"))  # both starts may fall into the same second
    write(tmp_path, range(4, 7), resumed_from=3, value=10.0)
    assert scalars(tmp_path, "episode/return_mean") == [
        (100, 1.0), (200, 2.0), (300, 3.0), (400, 40.0), (500, 50.0), (600, 60.0)
    ]  # fmt: skip


def test_a_new_run_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    write(tmp_path, range(1, 3), value=2.0)
    assert scalars(tmp_path, "episode/return_mean") == [(100, 2.0), (200, 4.0)]


def test_without_the_package_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "tensorboard.compat.proto", "tensorboard.summary.writer.event_file_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    notes: list[str] = []
    reporter = TensorBoardReporter(tmp_path, note=notes.append)
    reporter.start(RunStart(EXPERIMENT, 1))
    reporter.iteration(IterationReport(1, 100, 1000, 1.0, {"kl": 0.5}))
    reporter.finish("")
    reporter.close()
    assert len(notes) == 1 and "pip install tensorboard" in notes[0]
    assert not list(tmp_path.iterdir())


def test_runs_of_other_settings_are_other_trials() -> None:
    def trial(experiment: Experiment) -> str:
        _, session = hparams_summaries(experiment, 1, {})
        content = session.value[0].metadata.plugin_data.content
        return str(plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.group_name)

    other = replace(EXPERIMENT, ppo=PPOSettings(epochs=7))
    assert trial(EXPERIMENT) == trial(replace(EXPERIMENT, device="cpu")) != trial(other)
    assert trial(other).startswith("Toy ") and trial(replace(other, random_seed=9)) == trial(other)


def test_a_study_is_a_table_of_its_settings_with_means_over_seeds(tmp_path: Path) -> None:
    for number, (clip, seed) in enumerate(product((None, 0.2), (1, 2))):
        reporter = TensorBoardReporter(tmp_path / f"clip={clip}" / f"seed-{seed}" / "tensorboard")
        ppo = PPOSettings(value_clip_range=clip)
        reporter.start(RunStart(replace(EXPERIMENT, ppo=ppo, random_seed=seed), 1))
        metrics = {"episode_return_mean_100": float(number)}
        reporter.iteration(IterationReport(1, 100, 1000, 1.0, metrics, highest=metrics))
        reporter.finish("")
        reporter.close()
    events = plugin_event_multiplexer.EventMultiplexer()
    events.AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(tmp_path))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(tmp_path)))
    request, read = api_pb2.ListSessionGroupsRequest(slice_size=9, include_metrics=True), RequestContext()
    request.aggregation_type = api_pb2.AGGREGATION_AVG
    request.allowed_statuses.append(api_pb2.STATUS_UNKNOWN)
    request.allowed_statuses.append(api_pb2.STATUS_RUNNING)
    tags, stored = backend.hparams_metadata(read, ""), backend.hparams_from_data_provider(read, "", None)
    shown = backend.experiment_from_metadata(read, "", True, tags, stored)
    assert "ppo.value_clip_range" in {info.name for info in shown.hparam_infos}
    groups = list_session_groups.Handler(read, backend, "", request).run().session_groups
    found = {
        group.hparams["ppo.value_clip_range"].number_value or None: group.metric_values[0].value
        for group in groups
    }
    # Of the numbers 0 and 1, and of 2 and 3.
    assert found == {None: 0.5, 0.2: 2.5}


def test_hyperparameters_say_what_is_set() -> None:
    values = hyperparameters(
        replace(EXPERIMENT, friends=(friend("KLEarlyStop", target=0.02), friend("ICM"))), 3
    )
    assert values["friends"] == "KLEarlyStop:target=0.02, ICM" and values["ranks"] == 3
    assert (
        "ppo.value_clip_range" not in values
        and "environment.wrappers" not in values
        and "device" not in values
    )


@pytest.mark.parametrize(
    ("metric", "tag"),
    [
        ("episode_return_min", "episode/return_min"),
        ("time_update", "time/update"),
        ("icm/loss", "icm/loss"),
        ("odd", "other/odd"),
    ],
)
def test_tags(metric: str, tag: str) -> None:
    assert tag_of(metric) == tag


def accumulator(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"histograms": 0, "tensors": 0})
    found.Reload()
    return found


def test_histograms_have_all_their_numbers(tmp_path: Path) -> None:
    reporter = TensorBoardReporter(tmp_path)
    reporter.start(RunStart(EXPERIMENT, 1))
    samples = {
        "observations": np.arange(100.0),
        "actions/0": np.full(7, 2.0),
        "rewards/extrinsic": np.zeros(0),
    }
    assert reporter.wants_samples() and not reporter.wants_samples()
    reporter.iteration(IterationReport(1, 100, 1000, 1.0, {"kl": 0.5}, samples))
    reporter.finish("")
    reporter.close()
    assert not reporter.wants_samples()
    events = accumulator(tmp_path)
    assert {"observations/all", "actions/0"} <= set(events.Tags()["tensors"])
    assert "rewards/extrinsic" not in events.Tags()["tensors"]
    (point,) = events.Tensors("observations/all")
    buckets = tensor_util.make_ndarray(point.tensor_proto)  # [buckets, (left, right, count)]
    assert point.step == 100 and buckets.shape == (30, 3)
    assert buckets[:, 2].sum() == 100 and (buckets[0, 0], buckets[-1, 1]) == (0.0, 99.0)


def test_hyperparameters_with_final_scores(tmp_path: Path) -> None:
    reporter = TensorBoardReporter(tmp_path)
    reporter.start(RunStart(EXPERIMENT, 2))
    highest = Highest()
    for i, (score, evaluation) in enumerate(((5.0, 1.0), (9.0, 80.0), (7.0, 70.0), (8.0, math.nan)), 1):
        metrics = {"episode_return_mean_100": score, "episodes_in_mean": 100.0, "Evaluator/score": evaluation}
        highest.take(metrics)
        report = IterationReport(i, 100 * i, 400, float(i), metrics, highest=dict(highest.numbers))
        reporter.iteration(report)
    reporter.finish("")
    reporter.close()
    events = accumulator(tmp_path)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["ppo.clip_range"].number_value == 0.2
    assert start.hparams["environment.id"].string_value == "Toy-v0"
    assert start.hparams["ranks"].number_value == 2
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    described = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    # Without their columns the tab shows no table.
    assert {info.name for info in described.hparam_infos} > set(start.hparams)
    assert all(info.type for info in described.hparam_infos)
    infos = described.metric_infos
    final = {info.name.tag: scalars(tmp_path, info.name.tag) for info in infos}
    assert final == {
        "final/episode_return_mean_100": [(400, 8.0)],
        "final/episode_return_best": [(400, 80.0)],
        "final/evaluation": [(400, 70.0)],
    }


def test_a_lucky_first_episode_is_not_the_best_score(tmp_path: Path) -> None:
    """500 in the only episode, then a mean of 100 in 100 of them."""
    reporter, highest = TensorBoardReporter(tmp_path), Highest()
    reporter.start(RunStart(EXPERIMENT, 1))
    for i, (score, episodes) in enumerate(((500.0, 1.0), (100.0, 100.0), (90.0, 100.0)), 1):
        metrics = {"episode_return_mean_100": score, "episodes_in_mean": episodes}
        highest.take(metrics)
        reporter.iteration(IterationReport(i, i, 3, float(i), metrics, highest=dict(highest.numbers)))
    reporter.finish("")
    reporter.close()
    assert scalars(tmp_path, "final/episode_return_best") == [(3, 100.0)]


def graph_in(folder: Path) -> dict[str, Any]:
    """The nodes of the graph in the event files, by name."""
    return {node.name: node for node in accumulator(folder).Graph().node}


def test_the_networks_graph(tmp_path: Path) -> None:
    agent = build(experiment()).agent  # 3 -> 8 -> 2 means and 2 deviations, 3 -> 8 -> 1 value
    reporter = TensorBoardReporter(tmp_path)
    reporter.start(RunStart(EXPERIMENT, 1))
    before = {name: tensor.clone() for name, tensor in agent.tensors().items()}
    reporter.model(agent)
    reporter.close()
    nodes = graph_in(tmp_path)
    shapes = {
        name: tuple(size.size for size in node.attr["_output_shapes"].list.shape[0].dim)
        for name, node in nodes.items()
    }
    assert shapes["observation"] == (1, 3) and shapes["actor/Linear_0/weight"] == (8, 3)
    assert shapes["policy_parameters"] == (1, 4) and shapes["values"] == (1, 1)
    # Actor and critic both begin at the observation, and every edge leads from a node that is there.
    for part in ("actor", "critic"):
        assert nodes[f"{part}/Linear_0/linear"].input[0] == "observation"
    assert nodes["values"].input == ["value_head/linear"]
    assert all(source in nodes for node in nodes.values() for source in node.input)
    weights = {name for name in nodes if nodes[name].op == "Parameter"}
    assert len(weights) == len(list(agent.network.parameters()))
    for name, tensor in agent.tensors().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in agent.network.modules())


def test_a_resumed_run_has_one_graph_and_an_odd_network_none(tmp_path: Path) -> None:
    agent = build(experiment()).agent
    for folder, network, resumed in (("odd", nn.Bilinear(3, 3, 1), None), ("resumed", agent.network, 3)):
        reporter = TensorBoardReporter(tmp_path / folder)
        reporter.start(RunStart(EXPERIMENT, 1, resumed))
        reporter.model(replace(agent, network=network))
        reporter.iteration(IterationReport(1, 100, 1000, 1.0, {"kl": 0.5}))
        reporter.close()
        assert not accumulator(tmp_path / folder).Tags()["graph"]
        assert scalars(tmp_path / folder, "policy/kl") == [(100, 0.5)]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_films_are_in_the_images_tab(tmp_path: Path, suffix: str) -> None:
    recorder = Recorder(tmp_path / f"film{suffix}")
    recorder.set_speed(10)
    recorder.begin()
    for i in range(6):
        recorder.add(np.full((48, 64, 3), 40 * i, np.uint8), 0.0, i)
    recorder.end(1.0)
    path = recorder.write()
    reporter = TensorBoardReporter(tmp_path / "events")
    reporter.start(RunStart(EXPERIMENT, 1))
    films = {"VideoRecorder": path, "Other": tmp_path / "gone.gif"}
    reporter.iteration(IterationReport(1, 100, 1000, 1.0, {"kl": 0.5}, recordings=films))
    reporter.close()
    events = accumulator(tmp_path / "events")
    assert events.Tags()["images"] == ["video/VideoRecorder"]
    (shown,) = events.Images("video/VideoRecorder")
    with Image.open(io.BytesIO(shown.encoded_image_string)) as film:
        assert (film.format, film.n_frames, film.size) == ("GIF", 6, (shown.width, shown.height))
    assert shown.step == 100
    if suffix == ".gif":
        assert shown.encoded_image_string == path.read_bytes()
