"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from ppo_and_friends.experiment import EnvironmentSettings, Experiment, PPOSettings, friend
from ppo_and_friends.reporting.hyperparameters import hparams_summaries, hyperparameters
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.tensorboard import TensorBoardReporter, tag_of

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"))


def write(folder: Path, iterations: range, resumed_from: int | None = None, value: float = 1.0) -> None:
    reporter = TensorBoardReporter(folder)
    timesteps = None if resumed_from is None else 100 * resumed_from
    reporter.start(EXPERIMENT, 1, resumed_from, resumed_timesteps=timesteps)
    for i in iterations:
        metrics = {"score_mean": value * i, "kl": math.nan if i == 2 else 0.5, "icm/loss": 0.1}
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
    assert scalars(tmp_path, "score/mean") == [(100, 1.0), (200, 2.0), (300, 3.0)]
    assert scalars(tmp_path, "policy/kl") == [(100, 0.5), (300, 0.5)]
    assert [step for step, _ in scalars(tmp_path, "icm/loss")] == [100, 200, 300]


def test_resume_has_no_fold(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    first = next(tmp_path.iterdir())
    first.rename(first.with_name(first.name + ".0"))  # both starts may fall into the same second
    write(tmp_path, range(4, 7), resumed_from=3, value=10.0)
    assert scalars(tmp_path, "score/mean") == [
        (100, 1.0), (200, 2.0), (300, 3.0), (400, 40.0), (500, 50.0), (600, 60.0)
    ]  # fmt: skip


def test_a_new_run_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    write(tmp_path, range(1, 3), value=2.0)
    assert scalars(tmp_path, "score/mean") == [(100, 2.0), (200, 4.0)]


def test_without_the_package_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "tensorboard.compat.proto", "tensorboard.summary.writer.event_file_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    notes: list[str] = []
    reporter = TensorBoardReporter(tmp_path, note=notes.append)
    reporter.start(EXPERIMENT, 1)
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
    assert trial(other).startswith("Toy ")


def test_hyperparameters_say_what_is_set() -> None:
    values = hyperparameters(
        replace(EXPERIMENT, friends=(friend("KLEarlyStop", target=0.02), friend("ICM"))), 3
    )
    assert values["friends"] == "KLEarlyStop:target=0.02, ICM" and values["ranks"] == 3
    assert "ppo.value_clip" not in values and "environment.wrappers" not in values and "device" not in values


@pytest.mark.parametrize(
    ("metric", "tag"),
    [
        ("score_min", "score/min"),
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
    reporter.start(EXPERIMENT, 1)
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
    reporter.start(EXPERIMENT, 2)
    for i, score in enumerate((5.0, 9.0, 7.0), 1):
        metrics = {"score_mean_100": score, "Evaluator/score": 10 * score}
        reporter.iteration(IterationReport(i, 100 * i, 300, float(i), metrics))
    reporter.finish("")
    reporter.close()
    events = accumulator(tmp_path)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["ppo.clip"].number_value == 0.2
    assert start.hparams["environment.id"].string_value == "Toy-v0"
    assert start.hparams["ranks"].number_value == 2
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    described = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    # Without their columns the tab shows no table.
    assert {info.name for info in described.hparam_infos} == set(start.hparams)
    assert all(info.type for info in described.hparam_infos)
    infos = described.metric_infos
    final = {info.name.tag: scalars(tmp_path, info.name.tag) for info in infos}
    assert final == {
        "final/score_mean_100": [(300, 7.0)],
        "final/score_mean_best": [(300, 9.0)],
        "final/evaluation": [(300, 70.0)],
    }
