"""Comparison of groups of runs: the numbers, what is said of them, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.compare import compare
from ppo_and_friends.studies.compared_runs import align, find_group
from ppo_and_friends.studies.statistics import Interval, interquartile_means, pairs, smallest_p, verdict
from tests.command_line import run

pytest.importorskip("rliable", reason="the extra [study]")


def write_run(
    folder: Path, final: float, *, name: str = "Toy", timesteps: int = 1000, gamma: float = 0.9
) -> None:
    """A run whose score rises from 0 to ``final`` in a straight line."""
    folder.mkdir(parents=True)
    rows = [f"{i},{timesteps * i // 10},{i},{final * i / 10},{final * i / 10}" for i in range(1, 11)]
    header = "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100"
    (folder / "progress.csv").write_text("\n".join([header, *rows, ""]))
    record = {"format": 2, "experiment": {"name": name, "ppo": {"gamma": gamma}}}
    (folder / "experiment.json").write_text(json.dumps(record))


def write_group(folder: Path, scores: list[float], **settings: object) -> Path:
    for seed, score in enumerate(scores):
        write_run(folder / f"seed-{seed}", score, **settings)  # type: ignore[arg-type]
    return folder


def test_interquartile_mean_and_probability_of_improvement(tmp_path: Path):
    low = write_group(tmp_path / "low", [1, 2, 3, 4, 5, 6, 7, 8])
    high = write_group(tmp_path / "high", [5, 6, 7, 8, 9, 10, 11, 12])
    comparison = align([find_group(str(low)), find_group(f"{high}/*")])
    means = {Path(name).name: mean for name, mean in interquartile_means(comparison).items()}
    assert means["low"].value == 4.5  # (3 + 4 + 5 + 6) / 4
    assert means["high"].value == 8.5
    assert means["low"].low < 4.5 < means["low"].high < means["high"].high
    (pair,) = pairs(comparison)
    # Of 64 pairs: low 5 > none, 6 > 5, 7 > 5 6, 8 > 5 6 7 makes 6, and 4 ties that count half.
    assert pair.probability.value == (6 + 4 / 2) / 64
    assert pair.verdict == f"{high} is better"


def test_scores_are_taken_at_the_shortest_runs_end(tmp_path: Path):
    short = write_group(tmp_path / "short", [10.0] * 2, timesteps=1000)
    long = write_group(tmp_path / "long", [10.0] * 2, timesteps=2000)
    comparison = align([find_group(str(short)), find_group(str(long))])
    assert comparison.timesteps == {"Toy": 1000}
    assert comparison.raw[str(long)].tolist() == [[5.0], [5.0]]  # half way
    assert "compared at 1,000 timesteps" in comparison.notes[0]


def test_several_environments_are_scaled_by_all_runs_together(tmp_path: Path):
    for group, scores in (("a", (0.0, 50.0)), ("b", (100.0, 25.0))):
        write_group(tmp_path / group / "one", list(scores), name="One")
        write_group(tmp_path / group / "two", [-score for score in scores], name="Two")
    comparison = align([find_group(str(tmp_path / "a")), find_group(str(tmp_path / "b"))])
    assert comparison.normalised and comparison.environments == ("One", "Two")
    assert comparison.scores[str(tmp_path / "a")].tolist() == [[0.0, 1.0], [0.5, 0.5]]
    assert comparison.scores[str(tmp_path / "b")].tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_what_readers_should_know_is_noted(tmp_path: Path):
    write_group(tmp_path / "a" / "one", [1.0, 2.0], gamma=0.9)
    write_group(tmp_path / "a" / "two", [1.0, 2.0], gamma=0.8)
    write_group(tmp_path / "a" / "other", [1.0], name="Other")
    write_group(tmp_path / "b", [1.0, 2.0])
    notes = " ".join(align([find_group(str(tmp_path / one)) for one in "ab"]).notes)
    assert "differ in more than the seed" in notes
    assert "Other is left out" in notes


def test_too_few_seeds_are_said_to_be_too_few():
    assert smallest_p(3, 3) == 2 / 20 and smallest_p(4, 4) == 2 / 70
    assert smallest_p(2, 2, 3) == pytest.approx(2 / 6**3)
    certain = Interval(1.0, 1.0, 1.0)
    assert "too few seeds to tell" in verdict("A", "B", certain, smallest_p(3, 3), 3, 3)
    assert "at least 4 of each" in verdict("A", "B", certain, smallest_p(3, 3), 3, 3)
    assert verdict("A", "B", certain, smallest_p(4, 4), 4, 4) == "A is better"
    assert "no difference" in verdict("A", "B", Interval(0.6, 0.4, 0.8), smallest_p(4, 4), 4, 4)
    assert math.isclose(smallest_p(5, 5), 2 / 252)


def test_the_command_draws_and_writes_numbers(tmp_path: Path):
    write_group(tmp_path / "runs" / "gamma=0.9", [1, 2, 3, 4])
    write_group(tmp_path / "runs" / "gamma=0.99", [5, 6, 7, 8])
    done = run("--compare", tmp_path / "runs" / "gamma=0.9", f"{tmp_path}/runs/gamma=0.99/seed-*")
    assert done.status == 0, done.err
    assert "P(gamma=0.9 > gamma=0.99) = 0.00 (0.00 to 0.00): gamma=0.99 is better." in done.out
    record = json.loads((tmp_path / "runs" / "comparison.json").read_text())
    assert record["interquartile_mean"]["gamma=0.9"]["value"] == 2.5
    assert (tmp_path / "runs" / "comparison.png").stat().st_size > 10_000


def test_nonsense_is_refused_in_a_line(tmp_path: Path):
    group, other = write_group(tmp_path / "a", [1.0]), write_group(tmp_path / "b", [1.0], name="Other")
    for arguments, told in (
        ((group,), "at least two"),
        ((group, tmp_path / "nowhere"), "there are no runs"),
        ((group, group), "the same runs are there twice"),
        ((group, other), "needs runs of the same environment"),
    ):
        done = run("--compare", *arguments)
        assert done.status == 2 and told in done.err and len(done.complaint) == 1
    with pytest.raises(UsageError, match="has no column nonsense"):
        compare([str(group), str(write_group(tmp_path / "c", [1.0]))], column="nonsense")
