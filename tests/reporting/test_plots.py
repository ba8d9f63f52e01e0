"""Curves: honest smoothing, labels by what differs, means over seeds; pictures that aren't empty."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ppo_and_friends.cli.plot import plot
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.curves import curves, flatten, labels, load_run, smooth
from ppo_and_friends.reporting.interactive import figure
from ppo_and_friends.reporting.plots import LearningCurve, axis_count, default_window, make_plot, plot_runs
from ppo_and_friends.reporting.report import IterationReport


def make_run(
    folder: Path, seed: int = 1, clip: float = 0.2, name: str = "Toy", offset: float = 0.0, rows: int = 60
) -> Path:
    folder.mkdir(parents=True)
    settings = {
        "name": name,
        "random_seed": seed,
        "reward_threshold": 40,
        "ppo": {"clip_range": {"start": clip, "end": None}},
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
    assert labels(runs) == ["ppo.clip_range=0.1"] * 2 + ["ppo.clip_range=0.2"] * 2
    others = [
        load_run(make_run(tmp_path / name, name=name, clip=clip)) for name, clip in (("A", 0.1), ("B", 0.3))
    ]
    assert labels(others) == ["A", "B"]


def test_schedules_and_lists_are_one_setting() -> None:
    settings = {
        "ppo": {"clip_range": {"start": 0.2, "end": 0.0}, "rate": {"start": 0.001, "end": None}},
        "w": [1, 2],
    }
    assert flatten(settings) == {"ppo.clip_range": "0.2:0", "ppo.rate": 0.001, "w": "[1, 2]"}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (500, "500"), (10_000, "10k"), (1.5e6, "1.5M"), (-2e3, "-2k")]
)
def test_numbers_at_axes(value: float, text: str) -> None:
    assert axis_count(value) == text


@pytest.mark.parametrize(("rows", "window"), [(10, 1), (100, 3), (200, 5), (260, 5)])
def test_the_window_that_is_told_is_the_one_used(tmp_path: Path, rows: int, window: int) -> None:
    run = load_run(make_run(tmp_path / "run", rows=rows))
    assert default_window([run]) == window
    assert make_plot([run]).notes == (f"mean of {window} iterations" if window > 1 else "")


class Page(HTMLParser):
    """What a page loads, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if named.get("id"):
            self.ids.append(str(named["id"]))
        loaded = named.get("src") or (named.get("href") if tag == "link" else None)
        if loaded and not loaded.startswith("data:"):
            self.loads.append(loaded)


def test_png_and_page_of_several_runs(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / "runs" / f"{clip}{seed}", seed, clip) for clip in (0.1, 0.2) for seed in (1, 2)
    ]
    picture, page = plot(folders, column="score_mean", axis="timesteps")
    assert (picture, page) == (
        tmp_path / "runs" / "plot_score_mean.png",
        tmp_path / "runs" / "plot_score_mean.html",
    )
    text = page.read_text()
    assert Page(text).loads == []
    assert "ppo.clip_range=0.1 (2 runs)" in text and "ppo.clip_range=0.2 (2 runs)" in text
    # The curves' data is in the page: two bands, two lines.
    prepared = make_plot([load_run(folder) for folder in folders])
    traces = figure(prepared).data
    assert [trace.fill for trace in traces] == ["toself", None, "toself", None]
    np.testing.assert_allclose(traces[1].y, prepared.drawn[0].mean)


def test_the_axis_can_be_seconds(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="No such column: seconds"):
        plot([folder], column="score_mean", axis="seconds")
    text = (folder / "progress.csv").read_text().splitlines()
    lines = [f"{text[0]},seconds", *(f"{line},{i / 2}" for i, line in enumerate(text[1:], 1))]
    (folder / "progress.csv").write_text("\n".join([*lines, ""]))
    plot([folder], column="score_mean", axis="seconds", output=tmp_path / "out" / "x.png")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"x.png", "x.html"}
    assert figure(make_plot([load_run(folder)], x="seconds")).data[0].x[-1] == pytest.approx(59 / 2)


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
