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
from ppo_and_friends.reporting.curves import curves, smooth
from ppo_and_friends.reporting.grouping import grouped
from ppo_and_friends.reporting.interactive import LEGEND_LINE, figure
from ppo_and_friends.reporting.plots import (
    LearningCurve,
    axis_count,
    default_window,
    make_figure,
    make_plot,
    plot_runs,
)
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.run_record import Run, load_run
from ppo_and_friends.settings.flat import flatten
from tests.command_line import run as command
from tests.command_line import toy
from tests.toys import FOLDER, NAME


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
    (folder / "progress.csv").write_text("\n".join(["iteration,timesteps,episode_return_mean", *lines, ""]))
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
    (curve,) = curves(runs, "episode_return_mean")
    assert curve.label == "Toy" and curve.runs == 3
    # At timestep t: t / 100 + (2, 4, 6). In the last iteration no episode ended: the score stays.
    np.testing.assert_allclose(curve.mean, np.minimum(curve.x, 5900) / 100 + 4)
    np.testing.assert_allclose(curve.spread, 2.0)


def test_means_end_where_the_shortest_run_ends(tmp_path: Path) -> None:
    runs = [load_run(make_run(tmp_path / str(rows), rows, rows=rows)) for rows in (31, 59)]
    (curve,) = curves(runs, "episode_return_mean")
    assert (curve.x[0], curve.x[-1]) == (100.0, 3100.0)


def test_labels_say_what_differs(tmp_path: Path) -> None:
    runs = [
        load_run(make_run(tmp_path / f"{clip}{seed}", seed, clip)) for clip in (0.1, 0.2) for seed in (1, 2)
    ]
    assert [(group.label, len(group.runs)) for group in grouped(runs)] == [
        ("clip_range 0.1", 2), ("clip_range 0.2", 2)
    ]  # fmt: skip
    others = [
        load_run(make_run(tmp_path / name, name=name, clip=clip)) for name, clip in (("A", 0.1), ("B", 0.3))
    ]
    assert [group.label for group in grouped(others)] == ["A", "B"]


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
    picture, page = plot(folders, column="episode_return_mean", axis="timesteps")
    assert (picture, page) == (
        tmp_path / "runs" / "plot_episode_return_mean.png",
        tmp_path / "runs" / "plot_episode_return_mean.html",
    )
    text = page.read_text()
    assert Page(text).loads == []
    assert "clip_range 0.1 (2 runs)" in text and "clip_range 0.2 (2 runs)" in text
    # The curves' data is in the page: two bands, two lines.
    prepared = make_plot([load_run(folder) for folder in folders])
    traces = figure(prepared).data
    assert [trace.fill for trace in traces] == ["toself", None, "toself", None]
    np.testing.assert_allclose(traces[1].y, prepared.drawn[0].mean)


def test_the_axis_can_be_seconds(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="No such column: seconds"):
        plot([folder], column="episode_return_mean", axis="seconds")
    text = (folder / "progress.csv").read_text().splitlines()
    lines = [f"{text[0]},seconds", *(f"{line},{i / 2}" for i, line in enumerate(text[1:], 1))]
    (folder / "progress.csv").write_text("\n".join([*lines, ""]))
    plot([folder], column="episode_return_mean", axis="seconds", output=tmp_path / "out" / "x.png")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"x.png", "x.html"}
    assert figure(make_plot([load_run(folder)], x="seconds")).data[0].x[-1] == pytest.approx(60 / 2)


def test_labels_without_settings_are_the_folders(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "mine")
    (folder / "experiment.json").unlink()
    assert [group.label for group in grouped([load_run(folder)])] == ["mine"]


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(
        UsageError, match=r"No such column: scores\. There are: episode_return_mean, iteration"
    ):
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
    reporter.iteration(IterationReport(60, 6000, 6000, 1.0, {"episode_return_mean": 60.0}))
    reporter.finish("done")
    assert (folder / "learning_curve.png").stat().st_size > 5000


def with_friends(*friends: tuple[str, dict[str, object]], name: str = "Toy", seed: int = 1) -> Run:
    settings = {
        "name": name,
        "random_seed": seed,
        "friends": [{"name": friend, "arguments": arguments} for friend, arguments in friends],
    }
    score = np.arange(5.0)
    columns = {"iteration": score + 1, "timesteps": 100 * (score + 1), "episode_return_mean": score}
    return Run(Path(f"saved/{name}-{seed}"), flatten(settings), columns)


STOP = ("KLEarlyStop", {"target": 0.02})


def test_friends_make_another_experiment_however_long_their_list() -> None:
    """Labels were cut at 40 characters, so that these counted as two seeds of one experiment."""
    shared = [("ObservationNormalizer", {}), ("RewardNormalizer", {"gamma": 0.99}), STOP]
    runs = [
        with_friends(*shared, ("PreviousAction", {})),  # type: ignore[arg-type]
        with_friends(*shared, ("SegmentLength", {"steps": 2}), ("RewardScale", {"factor": 0.01}), seed=2),  # type: ignore[arg-type]
        with_friends(*shared, seed=3),  # type: ignore[arg-type]
        with_friends(*shared, ("PreviousAction", {}), ("Evaluator", {"every": 9}), seed=4),  # type: ignore[arg-type]
    ]
    groups = {group.label: [run.folder.name for run in group.runs] for group in grouped(runs)}
    assert groups == {
        "+PreviousAction": ["Toy-1", "Toy-4"],  # an evaluator changes nothing about what is learned
        "+SegmentLength steps 2, +RewardScale factor 0.01": ["Toy-2"],
        "Toy": ["Toy-3"],
    }


def test_launchers_are_told_apart_before_their_settings() -> None:
    runs = [
        with_friends(STOP, name="A"), with_friends(name="A"), with_friends(STOP, name="B"),
        with_friends(("KLEarlyStop", {"target": 0.5}), name="B", seed=2),
    ]  # fmt: skip
    assert [group.label for group in grouped(runs)] == [
        "A +KLEarlyStop target 0.02", "A", "B KLEarlyStop target 0.02", "B KLEarlyStop target 0.5"
    ]  # fmt: skip


def test_the_order_of_friends_is_a_difference_without_words() -> None:
    other = ("RewardScale", {"factor": 2.0})
    runs = [with_friends(STOP, other), with_friends(other, STOP, seed=2)]
    assert [group.label for group in grouped(runs)] == ["Toy (Toy-1)", "Toy (Toy-2)"]


def scored(folder: str, means: list[float], least: float, largest: float, seed: int) -> Run:
    score = np.array(means)
    rows = np.arange(1.0, len(means) + 1)
    columns = {
        "iteration": rows, "timesteps": 100 * rows + seed, "episode_return_mean": score,
        "episode_return_min": np.full(len(means), least), "episode_return_max": np.full(len(means), largest),
    }  # fmt: skip
    return Run(Path(folder), {"name": "Toy", "random_seed": seed}, columns)


def test_a_band_stays_within_the_returns_that_there_were() -> None:
    """Means of 500 and 420, at most 500: one deviation is 56.6, and 460 + 56.6 is no possible return."""
    runs = [scored("a", [0.0, 500.0], 0.0, 500.0, 1), scored("b", [0.0, 420.0], 0.0, 500.0, 2)]
    (curve,) = curves(runs, "episode_return_mean")
    low, high = curve.band
    assert curve.mean[-1] == 460 and curve.spread[-1] == pytest.approx(40 * 2**0.5)
    assert high[-1] == 500 and low[-1] == pytest.approx(460 - 40 * 2**0.5)
    assert low[0] == 0.0
    band = figure(make_plot(runs, window=1)).data[0].y
    assert max(band) == 500 and min(band) == 0


def test_a_mean_goes_to_the_end() -> None:
    """Blank last rows hold the last score; runs of one length end some timesteps apart."""
    nan = math.nan
    runs = [scored("a", [1.0] * 98 + [nan, nan], 0, 9, 1), scored("b", [3.0] * 99 + [nan], 0, 9, 60)]
    (curve,) = curves(runs, "episode_return_mean")
    assert (curve.x[-1], curve.mean[-1]) == (10_060.0, 2.0)


def test_legends_fit() -> None:
    """One line was a friend list as JSON, which ran off the picture."""
    extra = [(f"Friend{i}", {"first_argument": 0.125 * i, "second_argument": "x" * 30}) for i in range(12)]
    runs = [with_friends(*extra[: i + 1], seed=i) for i in range(12)]
    plot = make_plot(runs)
    picture = make_figure(plot)
    picture.canvas.draw()
    (legend,) = picture.legends
    box, whole = legend.get_window_extent(), picture.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0 and box.y1 <= whole.y1
    axes = picture.axes[0].get_window_extent()
    assert box.y1 <= axes.y0 and axes.height > 350  # below the picture, which keeps its height
    names = [trace.name.split("<br>") for trace in figure(plot).data if trace.name]
    assert len(names) == 12 and max(len(line) for name in names for line in name) <= 72
    layout = figure(plot).layout
    assert layout.margin.b >= LEGEND_LINE * sum(map(len, names)) and layout.height - layout.margin.b >= 400


def test_evaluations_are_in_the_learning_curve() -> None:
    run = scored("a", [31.0] * 100, 0, 40, 1)
    evaluated = np.full(100, math.nan)
    evaluated[[49, 99]] = -152.0, -140.0
    run.columns["Evaluator/score"] = evaluated
    plot = make_plot([run])
    assert [(curve.x.tolist(), curve.mean.tolist()) for curve in plot.evaluated] == [
        ([5001.0, 10_001.0], [-152.0, -140.0])
    ]
    texts = [text.get_text() for text in make_figure(plot).axes[0].get_legend().get_texts()]
    assert texts == ["training episodes", "evaluations"]
    assert [trace.name for trace in figure(plot).data][-1] == "evaluations"
    assert list(figure(plot).data[-1].y) == [-152.0, -140.0]
    assert make_plot([run], "iteration").evaluated == []


def test_plot_of_a_launcher_never_trains(tmp_path: Path) -> None:
    arguments = toy(tmp_path, timesteps=100)
    assert command(*arguments).status == 0
    assert command(*arguments, "--run_name", "other", "--random_seed=2").status == 0
    records = [tmp_path / FOLDER / "progress.csv", tmp_path / f"{FOLDER}-other" / "progress.csv"]
    before = [path.read_bytes() for path in records]
    done = command(*toy(tmp_path, "--plot", timesteps=10_000))
    assert done.status == 0 and f"Plotted: {tmp_path / 'plot_episode_return_mean.png'}" in done.out
    assert [path.read_bytes() for path in records] == before
    done = command("--plot", "-e", NAME, "--state_path", tmp_path / "none")
    assert (done.status, done.complaint) == (
        2, [f"--plot: no run of {FOLDER} is saved in {tmp_path / 'none'}. Give the runs' folders."]
    )  # fmt: skip
    done = command("--plot")
    assert (done.status, len(done.complaint)) == (2, 1) and "which runs?" in done.err
