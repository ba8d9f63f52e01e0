"""progress.csv over resumes, torn lines, new columns and full disks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ppo_and_friends.reporting import progress_csv
from ppo_and_friends.reporting.progress_csv import COLUMNS, ProgressCSV, read_rows
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"))


def report(iteration: int, **metrics: float) -> IterationReport:
    values = {"episode_return_mean": iteration / 3, "kl": 0.01, **metrics}
    return IterationReport(iteration, 100 * iteration, 1000, 1.5 * iteration, values)


def run(path: Path, iterations: range, resumed_from: int | None = None, **metrics: float) -> ProgressCSV:
    reporter = ProgressCSV(path)
    reporter.start(RunStart(EXPERIMENT, 1, resumed_from))
    for iteration in iterations:
        reporter.iteration(report(iteration, **metrics))
    return reporter


def iterations(path: Path) -> list[int]:
    return [int(row["iteration"]) for row in read_rows(path)[1]]


def test_header_order_and_cells(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 2), **{"zebra": 2.0, "icm/loss": math.nan, "entropy": 1.25})
    header, row = path.read_text().splitlines()
    assert header.split(",") == [*COLUMNS, "icm/loss", "zebra"]
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert cells["iteration"] == "1" and cells["timesteps"] == "100" and cells["seconds"] == "1.5"
    assert cells["episode_return_mean"] == "0.3333333333"
    assert cells["icm/loss"] == "" and cells["policy_loss"] == ""
    assert cells["zebra"] == "2" and cells["entropy"] == "1.25"


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    reporter = ProgressCSV(path)
    reporter.start(RunStart(EXPERIMENT, 1))
    for iteration in range(1, 4):
        reporter.iteration(report(iteration))
        assert iterations(path) == list(range(1, iteration + 1))


def test_resume_drops_what_is_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 8))
    kept = path.read_text().splitlines()[:5]
    run(path, range(5, 7), resumed_from=4)
    assert iterations(path) == [1, 2, 3, 4, 5, 6]
    assert path.read_text().splitlines()[:5] == kept, "rows of the checkpoint's past are untouched"


def test_new_run_forgets_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 5))
    run(path, range(1, 3))
    assert iterations(path) == [1, 2]


def test_resume_without_a_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(5, 7), resumed_from=4)
    assert iterations(path) == [5, 6]


@pytest.mark.parametrize("cut", [1, 3, 8, 30])
def test_torn_last_line_is_repaired(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 6))
    path.write_bytes(path.read_bytes()[:-cut])
    run(path, range(5, 7), resumed_from=4)
    assert iterations(path) == [1, 2, 3, 4, 5, 6]
    assert all(row["kl"] == "0.01" for row in read_rows(path)[1])


def test_torn_line_of_the_checkpoints_own_iteration_stays(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 6), zebra=1.25)
    path.write_bytes(path.read_bytes()[:-2])  # 1.25 became 1.2: not to be believed
    run(path, range(6, 7), resumed_from=5, zebra=1.25)
    rows = read_rows(path)[1]
    assert [row["zebra"] for row in rows] == ["1.25"] * 4 + ["", "1.25"]
    assert rows[4]["timesteps"] == "500"


def test_new_column_over_a_resume_keeps_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 3), **{"rnd/loss": 1.0})
    run(path, range(3, 5), resumed_from=2, **{"icm/loss": 2.0})
    columns, rows = read_rows(path)
    assert columns == [*COLUMNS, "icm/loss", "rnd/loss"]
    assert [row["rnd/loss"] for row in rows] == ["1", "1", "", ""]
    assert [row["icm/loss"] for row in rows] == ["", "", "2", "2"]


def test_new_column_in_the_middle_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    reporter = run(path, range(1, 3))
    reporter.iteration(report(3, late=7.0))
    reporter.iteration(report(4))
    columns, rows = read_rows(path)
    assert columns == [*COLUMNS, "late"]
    assert [row["late"] for row in rows] == ["", "", "7", ""]
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_rows_that_could_not_be_written_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.csv"
    reporter = run(path, range(1, 3))

    def full(*_: object, **__: object) -> None:
        with open(path, "ab") as file:
            file.write(b"3,30")  # a part of the row gets through
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCSV, "_append", full)
        for iteration in (3, 4):
            with pytest.raises(OSError, match="No space"):
                reporter.iteration(report(iteration))
    reporter.iteration(report(5))
    assert iterations(path) == [1, 2, 3, 4, 5]


def test_failed_start_does_not_touch_the_old_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.csv"
    run(path, range(1, 6))
    reporter = ProgressCSV(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(progress_csv, "replace_file", full)
        with pytest.raises(OSError, match="No space"):
            reporter.start(RunStart(EXPERIMENT, 1, 3))
        with pytest.raises(OSError, match="No space"):
            reporter.iteration(report(4))
    assert iterations(path) == [1, 2, 3, 4, 5]
    reporter.iteration(report(5, kl=0.5))
    assert iterations(path) == [1, 2, 3, 4, 5]
    assert read_rows(path)[1][-1]["kl"] == "0.5"


def test_a_file_that_somebody_removed_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    reporter = run(path, range(1, 3))
    path.unlink()
    reporter.iteration(report(3))
    assert iterations(path) == [3]
