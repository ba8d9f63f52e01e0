"""The table and the README: what counts as reached, what is left out, and that inserting is idempotent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evaluate_run import training_seconds, write_curve
from benchmarks.learning import DOCUMENTED
from benchmarks.learning_report import block, insert, table, write_report
from benchmarks.learning_results import load_results
from benchmarks.report import ROOT, number
from benchmarks.runs import settings_hash
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.settings.registry import resolve

START, END = "<!-- results:start -->", "<!-- results:end -->"


def put(results: Path, launcher: str, seed: int, mean: float, **changes: Any) -> dict[str, Any]:
    settings = experiment_settings(resolve(launcher)) | {"random_seed": seed}
    settings |= changes.pop("settings", {})
    record = {
        "launcher": launcher,
        "environment": settings["environment"]["id"],
        "seed": seed,
        "settings_hash": settings_hash(settings),
        "timesteps": 60_100,
        "training_seconds": 3.5,
        "episodes": 2,
        "mean": mean,
        "std": 1.0,
        "scores": [mean - 1, mean + 1],
        "commit": "0" * 40,
        "evaluated_at": "2026-01-01T00:00:00+00:00",
        "settings": settings,
    } | changes
    folder = results / launcher / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(record))
    rows = "".join(f"{i},{i * 1000},{i / 10},{i},{i / 2}\n" for i in range(1, 50))
    (folder / "curve.csv").write_text(
        "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100\n" + rows
    )
    return record


def cells(text: str, launcher: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {launcher}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_target_is_reached_by_the_worst_of_three_seeds_in_time(tmp_path: Path) -> None:
    for seed, mean in ((1, 500.0), (2, 500.0), (3, 500.0)):
        put(tmp_path, "CartPole", seed, mean)
    (results,) = load_results(tmp_path)
    assert results.reached
    assert cells(table([results]), "CartPole")[1:] == [
        "500.0 @ 60k", "500.0", "60.1k", "500.0", "500.0", "500.0", "500.0 [500.0, 500.0]", "4 s", "yes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("means", "timesteps"), [((500, 499.9, 500), 60_000), ((500, 500), 60_000), ((500, 500, 500), 62_000)]
)
def test_a_worse_seed_too_few_seeds_or_too_many_steps_do_not_reach_it(
    tmp_path: Path, means: tuple[float, ...], timesteps: int
) -> None:
    for seed, mean in enumerate(means, 1):
        put(tmp_path, "CartPole", seed, mean, timesteps=timesteps)
    (results,) = load_results(tmp_path)
    assert not results.reached
    assert cells(table([results]), "CartPole")[-1].startswith("no")


def test_failures_are_listed_and_spoil_the_result(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        put(tmp_path, "CartPole", seed, 500.0)
    folder = tmp_path / "CartPole" / "seed-4"
    folder.mkdir()
    failure = {"seed": 4, "timesteps": 12_000, "error": "EnvironmentFault: NaN"}
    (folder / "failure.json").write_text(json.dumps(failure))
    text = table(load_results(tmp_path))
    assert cells(text, "CartPole")[-1] == "no, 1 failed"
    assert "CartPole, seed 4, failed at 12k: `EnvironmentFault: NaN`" in text


def test_a_launcher_that_only_failed_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / "Pendulum" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text(json.dumps({"seed": 1, "timesteps": 0, "error": "boom"}))
    text = table(load_results(tmp_path))
    assert cells(text, "Pendulum")[-1] == "failed (1)"


def test_seeds_of_other_settings_are_left_out_and_old_settings_are_marked(tmp_path: Path) -> None:
    other = {"num_timesteps": 59_000}
    put(tmp_path, "CartPole", 1, 400.0, settings=other, evaluated_at="2026-02-01")
    put(tmp_path, "CartPole", 2, 500.0)
    (results,) = load_results(tmp_path)
    assert results.means == [400.0] and results.others == 1 and not results.current
    text = table([results])
    assert "The launcher's settings have changed since." in text
    assert "1 seeds with other settings are left out" in text


def test_inserting_is_idempotent_and_touches_nothing_else() -> None:
    text = f"# Title\n\n{START}\nold\n{END}\n\nThe rest.\n"
    once = insert(text, {"results": "| new |\n"})
    assert once == f"# Title\n\n{START}\n| new |\n{END}\n\nThe rest.\n"
    assert insert(once, {"results": "| new |\n"}) == once
    assert insert("no markers", {"results": "new"}) == "no markers"
    for broken in (f"{START} only", f"{END} first {START}", f"{END} only"):
        with pytest.raises(UsageError, match="markers"):
            insert(broken, {"results": "new"})


def test_the_report_writes_table_figure_and_readme_alike_twice(tmp_path: Path) -> None:
    results, readme = tmp_path / "results", tmp_path / "README.md"
    for seed in (1, 2, 3):
        put(results, "CartPole", seed, 450.0 + seed)
    put(results, "LunarLander", 1, 250.0, timesteps=1_500_000)
    readme.write_text(f"a\n{START}\n{END}\nb\n")
    write_report(results, readme)
    first = readme.read_text(), (results / "summary.md").read_text()
    assert "| CartPole |" in first[0] and first[0].startswith("a\n") and first[0].endswith(f"{END}\nb\n")
    assert (results / "curves.png").read_bytes()[:4] == b"\x89PNG"
    write_report(results, readme)
    assert first == (readme.read_text(), (results / "summary.md").read_text())


def test_no_results_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No results"):
        write_report(tmp_path / "nothing")


def test_a_curve_has_the_evaluations_of_a_run_that_made_them(tmp_path: Path) -> None:
    progress = tmp_path / "progress.csv"
    progress.write_text(
        "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100,kl,Evaluator/score\n1,9,1,2,3,4,5\n"
    )
    write_curve(tmp_path, tmp_path / "curve.csv")
    assert (tmp_path / "curve.csv").read_text().splitlines() == [
        "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100,Evaluator/score",
        "1,9,1,2,3,5",
    ]


def test_a_curve_of_several_policies_counts_all_of_them(tmp_path: Path) -> None:
    for name, score in (("adversary", 7), ("prey", -7)):
        folder = tmp_path / "policies" / name
        (folder / "checkpoints").mkdir(parents=True)
        columns = "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100,time_evaluation"
        (folder / "progress.csv").write_text(
            f"{columns}\n1,9,1.5,{score},{score},\n2,18,3,{score},{score},1\n"
        )
    rows = write_curve(tmp_path, tmp_path / "curve.csv")
    assert (tmp_path / "curve.csv").read_text().splitlines()[1:] == ["1,18,3,7,7", "2,36,6,7,7"]
    assert training_seconds(rows) == 3 + 3 - (1 + 1)


def test_results_of_an_earlier_format_are_described_by_todays_names() -> None:
    results = {one.name: one for one in load_results(ROOT / "results")}
    text = block(results["Hopper"])
    assert "clip range 0.2, gamma 0.993" in text and "StdClip(limit=1:0.1)" in text
    assert results["Hopper"].current


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [(0.964, None, "0.96"), (-12.34, None, "-12.3"), (9876.5, None, "9,876"), (6.06, 320.0, "6.1")],
)
def test_a_score_of_at_most_one_keeps_two_decimals(value: float, like: float | None, text: str) -> None:
    assert number(value, like) == text


def test_a_target_of_our_own_says_why(tmp_path: Path) -> None:
    put(tmp_path, "RepeatPreviousEasy", 1, 0.854)
    (results,) = load_results(tmp_path)
    text = block(results)
    assert "0.90 within 1M timesteps" in text and "**missed by 0.05**. 19 of 20 answers right" in text


def test_the_pages_are_what_the_results_say() -> None:
    launchers = load_results(ROOT / "results")
    blocks = {"results": table(launchers)} | {one.name: block(one) for one in launchers}
    for page in (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in DOCUMENTED)):
        text = page.read_text()
        for name, content in blocks.items():
            assert insert(text, {name: content}) == text, name
