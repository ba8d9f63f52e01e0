"""Pictures of the benchmarks: axes have names, and a line's colour means one thing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import figures
from benchmarks.learning_results import LauncherResults


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    saved: list[Any] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: saved.append(figure))
    return saved


def launcher(results: Path, name: str, column: str, *friends: str) -> LauncherResults:
    """Two seeds with a curve of one column."""
    settings = {"friends": [{"name": friend} for friend in friends]}
    for seed in (1, 2):
        folder = results / name / f"seed-{seed}"
        folder.mkdir(parents=True)
        rows = "\n".join(f"{i},{100 * i},{i + seed}" for i in range(1, 4))
        (folder / "curve.csv").write_text(f"iteration,timesteps,{column}\n{rows}\n")
    ends = tuple({"seed": s, "timesteps": 300, "mean": 3.0 + s, "settings": settings} for s in (1, 2))
    return LauncherResults(name, ends)


def test_both_sides_of_a_comparison_have_named_axes(drawn: list[Any]) -> None:
    line = (np.array([0.0, 10.0]), np.array([1.0, 2.0]))
    figures.draw_sides({name: {"ours": [line], "theirs": [line]} for name in "AB"}, Path("unused"))
    first, second = drawn[0].axes
    assert [panel.get_xlabel() for panel in (first, second)] == ["timesteps", "timesteps"]
    assert first.get_ylabel() == "episode return"


def test_learning_curves_name_their_axes_and_each_colour_means_one_thing(
    tmp_path: Path, drawn: list[Any]
) -> None:
    kinds = [
        launcher(tmp_path, "A", figures.EVALUATION),
        launcher(tmp_path, "B", "episode_return_mean_100"),
        launcher(tmp_path, "C", "episode_return_mean_100", "HardReset"),
    ]
    figures.draw_learning(kinds, tmp_path, Path("unused"))
    (figure,) = drawn
    assert [panel.get_xlabel() for panel in figure.axes] == ["timesteps"] * 3
    assert figure.axes[0].get_ylabel() == "episode return"
    lines = [panel.get_lines()[0] for panel in figure.axes]
    assert [line.get_ydata()[-1] for line in lines] == [4.5] * 3  # the mean of 3 + 1 and 3 + 2
    assert len({line.get_label() for line in lines}) == len({line.get_color() for line in lines}) == 3


def test_a_single_panel_is_larger_than_its_legend(tmp_path: Path, drawn: list[Any]) -> None:
    figures.draw_learning([launcher(tmp_path, "CartPole", figures.EVALUATION)], tmp_path, Path("unused"))
    (figure,) = drawn
    figure.canvas.draw()
    panel, legend = figure.axes[0].get_window_extent(), figure.legends[0].get_window_extent()
    assert legend.width <= panel.width and legend.height < panel.height / 2
    whole = figure.bbox
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1 and whole.y0 <= legend.y0
