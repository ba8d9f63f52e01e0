"""Watching a run from the command line: one small run, tested, recorded, exported and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppo_and_friends import load_policy
from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.command_line import parse
from ppo_and_friends.cli.main import _recording, main
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.settings.registry import resolve


@pytest.mark.parametrize(
    ("given", "path", "choice"),
    [
        ([], None, "best"),
        (["--render_gif"], "run/episode.gif", "best"),
        (["--render_gif", "--video_episode", "worst"], "run/episode.gif", "worst"),
        (["--video", "median"], "run/episode_median.mp4", "median"),
        (["--video", "all"], "run/episode_all.mp4", "all"),
        (["--video", "best"], "run/episode_best.mp4", "best"),
        (["--video", "out.gif"], "out.gif", "best"),
        (["--video", "out.mp4", "--video_episode", "all"], "out.mp4", "all"),
    ],
)
def test_which_episode_goes_where(given: list[str], path: str | None, choice: str) -> None:
    options = parse(["-e", "CartPole", "--num_test_runs", "3", *given])
    assert _recording(options, Path("run")) == (None if path is None else Path(path), choice)


@pytest.mark.parametrize(
    ("given", "friends"),
    [
        ([], ()),
        (["--eval_every", "1e4"], ("Evaluator:every=10000", "BestPolicyKeeper")),
        (
            ["--eval_every", "500", "--eval_episodes", "3", "--target_score", "-20.5"],
            ("Evaluator:every=500,episodes=3,target=-20.5", "BestPolicyKeeper"),
        ),
        (["--target_score", "475"], ("Evaluator:target=475.0", "BestPolicyKeeper")),
        (["--video_every", "1000"], ("VideoRecorder:every=1000",)),
    ],
)
def test_options_that_are_friends(given: list[str], friends: tuple[str, ...]) -> None:
    options = parse(["-e", "CartPole", *given])
    assert options.watching_friends == friends
    experiment = apply_options(resolve("CartPole"), options)
    names = [spec.name for spec in experiment.friends]
    assert names[len(names) - len(friends) :] == [text.partition(":")[0] for text in friends]


@pytest.mark.slow
def test_evaluated_and_filmed_while_training(tmp_path: Path) -> None:
    command = ["-e", "CartPole", "--state_path", str(tmp_path), "--quiet", "--num_timesteps", "100000"]
    # Every policy reaches 5, so that the first evaluation ends the training.
    watched = ["--eval_every", "1000", "--eval_episodes", "2", "--target_score", "5", "--video_every", "500"]
    assert main([*command, *watched]) == 0
    folder = tmp_path / "CartPole"
    _, rows = read_rows(folder / "progress.csv")
    assert 1000 <= int(rows[-1]["timesteps"]) < 2100
    assert float(rows[-1]["Evaluator/score"]) >= 5
    assert list((folder / "videos").glob("*.gif"))
    best = load_policy(folder / "best")
    assert best.timesteps == int(rows[-1]["timesteps"]) and best(np.zeros(4)) in (0, 1)
    (point,) = tags(folder).Scalars("final/evaluation")
    assert point.value == pytest.approx(float(rows[-1]["Evaluator/score"]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Pendulum's folder, trained in two sittings."""
    path: Path = tmp_path_factory.mktemp("states")
    command = ["-e", "Pendulum", "--state_path", str(path), "--quiet", "--set", "ppo.rollout_timesteps=512"]
    assert main([*command, "--num_timesteps", "1024"]) == 0
    assert main([*command, "--num_timesteps", "2048"]) == 0
    return path / "Pendulum"


def tags(folder: Path) -> Any:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    return events


def in_order(events: Any, tag: str) -> list[Any]:
    """A scalar's points as they were written.

    Files of one process and one second are read by the last number in their names, 10 before 9.
    """
    return sorted(events.Scalars(tag), key=lambda point: point.wall_time)


@pytest.mark.slow
def test_tensorboard_has_everything_over_both_sittings(run: Path) -> None:
    events = tags(run)
    found = events.Tags()
    assert {
        "actions/all", "observations/all", "advantages/all", "rewards/extrinsic", "values/extrinsic",
    } <= set(found["tensors"])  # fmt: skip
    assert {
        "policy/action_std", "policy/entropy", "policy/kl", "policy/clip_fraction", "schedule/clip_range",
        "schedule/learning_rate", "loss/value", "loss/explained_variance", "loss/gradient_norm",
        "time/steps_per_second", "time/environment", "time/inference", "time/update", "time/communication",
    } <= set(found["scalars"])  # fmt: skip
    steps = [point.step for point in in_order(events, "policy/entropy")]
    _, rows = read_rows(run / "progress.csv")
    # Quick iterations share a point; the ends of both sittings are there, and there is no fold.
    trained = [int(row["timesteps"]) for row in rows]
    assert set(steps) <= set(trained) and steps == sorted(set(steps)) and len(steps) >= 3
    assert (steps[0], steps[-1]) == (trained[0], trained[-1])
    # The entropy of a Gaussian: log(std) + log(2 pi e) / 2, the deviation that of the rollout before.
    std = [point.value for point in in_order(events, "policy/action_std")]
    entropy = [point.value for point in in_order(events, "policy/entropy")]
    np.testing.assert_allclose(np.log(std) + 0.5 * np.log(2 * np.pi * np.e), entropy, atol=0.05)


@pytest.mark.slow
def test_test_record_export_and_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    command = ["-e", "Pendulum", "--state_path", str(run.parent)]
    assert main([*command, "--num_test_runs", "2", "--video", "worst"]) == 0
    assert (run / "episode_worst.mp4").stat().st_size > 1000
    assert main([*command, "--export", "onnx"]) == 0
    assert main(["--report", str(run)]) == 0
    assert "policy.onnx" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "data:video/mp4;base64," in text and "<video" in text
    observations = np.random.default_rng(0).uniform(-1, 1, (4, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(run / "policy.onnx"), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"observations": observations})
    np.testing.assert_allclose(actions, load_policy(run)(observations), atol=1e-5)
