"""Curves: honest smoothing, labels by what differs, means over seeds; pictures that aren't empty."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.curves import curves, labels, load_run, smooth
from ppo_and_friends.reporting.plots import LearningCurve, plot_runs
from ppo_and_friends.reporting.report import IterationReport


def make_run(
    folder: Path, seed: int = 1, clip: float = 0.2, name: str = "Toy", offset: float = 0.0, rows: int = 60
) -> Path:
    folder.mkdir(parents=True)
    settings = {
        "name": name,
        "random_seed": seed,
        "target_score": 40,
        "ppo": {"clip": {"start": clip, "end": None}},
    }
    (folder / "experiment.json").write_text(json.dumps({"experiment": settings, "plain": True}))
    lines = [f"{i},{100 * i},{i + offset if i % 5 else ''}" for i in range(1, rows + 1)]
    (folder / "progress.csv").write_text("\n".join(["iteration,timesteps,score_mean", *lines, ""]))
    return folder


def test_smoothing_by_hand() -> None:
    values = np.array([1.0, 3.0, 8.0, 4.0, 100.0])
    np.testing.assert_allclose(smooth(values, 3), [1.0, 4.0, 5.0, 112 / 3, 100.0])
    np.testing.assert_allclose(smooth(values, 5), [1.0, 4.0, 116 / 5, 112 / 3, 100.0])
    np.testing.assert_allclose(smooth(np.array([1.0, math.nan, 3.0, 5.0]), 3), [1.0, math.nan, 4.0, 5.0])


@given(st.integers(1, 60), st.integers(1, 80), st.floats(-5, 5), st.floats(-100, 100))
def test_smoothing_never_bends_a_straight_line(n: int, window: int, slope: float, start: float) -> None:
    line = start + slope * np.arange(n)
    np.testing.assert_allclose(smooth(line, window), line, atol=1e-8)


def test_runs_that_differ_only_in_the_seed_are_averaged(tmp_path: Path) -> None:
    runs = [load_run(make_run(tmp_path / f"s{seed}", seed, offset=2.0 * seed)) for seed in (1, 2, 3)]
    (curve,) = curves(runs, "score_mean")
    assert curve.label == "Toy" and curve.runs == 3
    # At timestep t: t / 100 + (2, 4, 6).
    np.testing.assert_allclose(curve.mean, curve.x / 100 + 4)
    np.testing.assert_allclose(curve.spread, 2.0)


def test_means_end_where_the_shortest_run_ends(tmp_path: Path) -> None:
    runs = [load_run(make_run(tmp_path / str(rows), rows, rows=rows)) for rows in (31, 59)]
    (curve,) = curves(runs, "score_mean")
    assert (curve.x[0], curve.x[-1]) == (100.0, 3100.0)


def test_labels_say_what_differs(tmp_path: Path) -> None:
    runs = [
        load_run(make_run(tmp_path / f"{clip}{seed}", seed, clip)) for clip in (0.1, 0.2) for seed in (1, 2)
    ]
    assert labels(runs) == ["ppo.clip=0.1"] * 2 + ["ppo.clip=0.2"] * 2
    others = [
        load_run(make_run(tmp_path / name, name=name, clip=clip)) for name, clip in (("A", 0.1), ("B", 0.3))
    ]
    assert labels(others) == ["A", "B"]


def test_labels_without_settings_are_the_folders(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "mine")
    (folder / "experiment.json").unlink()
    assert labels([load_run(folder)]) == ["mine"]


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"No such column: scores\. There are: iteration, score_mean"):
        plot_runs([folder], tmp_path / "x.png", column="scores")
    with pytest.raises(UsageError, match="no run to plot"):
        plot_runs([tmp_path / "nowhere"], tmp_path / "x.png")


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / f"{clip}", clip=clip) for clip in (0.1, 0.2)]
    with Image.open(plot_runs(folders, tmp_path / "curve.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        colors = {tuple(pixel) for pixel in pixels[::7]}
    assert picture.width >= 1000
    blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    assert blue in colors or orange in colors


def test_learning_curve_at_the_end_of_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    reporter = LearningCurve(folder)
    reporter.finish("nothing was trained")
    assert not (folder / "learning_curve.png").exists()
    reporter.iteration(IterationReport(60, 6000, 6000, 1.0, {"score_mean": 60.0}))
    reporter.finish("done")
    assert (folder / "learning_curve.png").stat().st_size > 5000
