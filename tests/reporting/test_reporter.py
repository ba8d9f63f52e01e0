"""Several reporters as one: failures never stop a run; formatting of numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.common.formatting import format_count, format_duration, format_spread, format_value
from ppo_and_friends.reporting.composite import CompositeReporter, make_reporter
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"))
REPORT = IterationReport(1, 10, 100, 1.0, {"kl": 0.1})


class Recording(SilentReporter):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.messages: list[tuple[str, str]] = []

    def start(self, *_: Any, **__: Any) -> None:
        self.calls.append("start")

    def iteration(self, report: IterationReport) -> None:
        self.calls.append("iteration")

    def message(self, text: str, *, level: str = "note") -> None:
        self.messages.append((level, text))

    def close(self) -> None:
        self.calls.append("close")


class Broken(Recording):
    def iteration(self, report: IterationReport) -> None:
        super().iteration(report)
        raise OSError("No space left on device")


class BrokenRecord(Broken):
    must_not_stop = True


def test_a_reporter_that_fails_is_dropped_with_one_warning() -> None:
    good, bad = Recording(), Broken()
    both = CompositeReporter([bad, good])
    both.start(RunStart(EXPERIMENT, 1))
    for _ in range(3):
        both.iteration(REPORT)
    both.close()
    assert bad.calls == ["start", "iteration", "close"]
    assert good.calls == ["start", "iteration", "iteration", "iteration", "close"]
    assert len(good.messages) == 1
    assert good.messages[0][0] == "warning" and "No space left" in good.messages[0][1]


def test_the_record_is_tried_again_with_one_loud_warning() -> None:
    good, bad = Recording(), BrokenRecord()
    both = CompositeReporter([good, bad])
    for _ in range(3):
        both.iteration(REPORT)
    assert bad.calls == ["iteration"] * 3
    assert len(good.messages) == 1 and "INCOMPLETE" in good.messages[0][1]


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted(Recording):
        def iteration(self, report: IterationReport) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CompositeReporter([Interrupted()]).iteration(REPORT)


def test_only_the_main_rank_speaks_and_writes(tmp_path: Path) -> None:
    stream = io.StringIO()
    reporter = make_reporter(tmp_path, False, file=stream)
    reporter.start(RunStart(EXPERIMENT, 2))
    reporter.iteration(REPORT)
    reporter.finish("done")
    reporter.close()
    assert stream.getvalue() == "" and not list(tmp_path.iterdir())


def test_the_main_rank_gets_all_of_them(tmp_path: Path) -> None:
    stream = io.StringIO()
    reporter = make_reporter(tmp_path, True, file=stream)
    reporter.start(RunStart(EXPERIMENT, 2))
    reporter.iteration(REPORT)
    reporter.finish("all done")
    reporter.close()
    assert "all done" in stream.getvalue()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.csv", "tensorboard"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (999.6, "1.00k"), (12_345, "12.3k"), (999_999, "1.00M"), (1.26e6, "1.26M"),
     (3e9, "3.00G"), (-12_345, "-12.3k"), (math.nan, "-"), (math.inf, "inf")],
)  # fmt: skip
def test_counts(value: float, text: str) -> None:
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (83, "1:23"), (59.6, "1:00"), (7384, "2:03:04"),
     (86_400 * 3 + 4 * 3600, "3d 4h"), (math.nan, "-"), (math.inf, "-")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (0.00025, "0.00025"), (3e-7, "3.0e-07"), (203.14, "203.1"),
     (12_345.6, "12,346"), (500.0, "500"), (-3.14159, "-3.142"), (math.nan, "-"), (math.inf, "inf")],
)  # fmt: skip
def test_values(value: float, text: str) -> None:
    assert format_value(value) == text


def test_spread_without_a_spread() -> None:
    assert format_spread(1.5, math.nan) == "1.500"
    assert format_spread(1.5, 0.25) == "1.500 ± 0.250"
    assert format_spread(445.83, 50.686) == "445.8 ± 50.7"
    assert format_spread(-0.02, 12.5) == "-0.02 ± 12.50"
    assert format_spread(500.0, 0.0) == "500 ± 0"
    assert format_spread(9359.75, 0.13) == "9,360 ± 0.1300"
    assert format_spread(99.996, 0.001) == "100.00 ± 0.001"
    assert format_spread(12345.6, 3.21) == "12,346 ± 3"
    assert format_spread(2.5e-5, 1e-6) == "2.5e-05 ± 1.0e-06"
    assert format_spread(math.nan, math.nan) == "-"
