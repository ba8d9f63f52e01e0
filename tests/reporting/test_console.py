"""The display under a pseudo-terminal, the lines under a pipe."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ppo_and_friends.evaluation.evaluate import Episode, Evaluation
from ppo_and_friends.reporting.console import ConsoleReporter, is_live, line_interval
from ppo_and_friends.reporting.display import plain_line, render
from ppo_and_friends.reporting.report import IterationReport, RunStart
from ppo_and_friends.reporting.tables import print_evaluation
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment

EXPERIMENT = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"), num_timesteps=100_000)
NAMES = (
    *(
        "steps_per_second",
        "episodes",
        "episode_return_mean",
        "episode_return_std",
        "episode_return_min",
        "episode_return_max",
        "episode_return_mean_100",
    ),
    *("episode_length_mean", "policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "clip_range"),
    *("explained_variance", "learning_rate", "gradient_norm", "time_environment", "time_update"),
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

PROGRAM = """
import sys
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
from ppo_and_friends.reporting.console import ConsoleReporter
from ppo_and_friends.reporting.report import IterationReport, RunStart
reporter = ConsoleReporter()
experiment = Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"), num_timesteps=1000)
reporter.start(RunStart(experiment, 2, notes=["a note"]))
try:
    for i in range(1, 5):
        metrics = {"episode_return_mean": 123.4, "episode_return_std": 5.0, "kl": 0.0123}
        metrics["icm/" + "very_long_name" * 5] = 1.0
        reporter.iteration(IterationReport(i, 250 * i, 1000, float(i), metrics))
        reporter.message("saved")
        print("from elsewhere")
        if sys.argv[1:] == ["fail"] and i == 2:
            raise KeyboardInterrupt
    reporter.finish("all done")
finally:
    reporter.close()
"""


def report(iteration: int, **metrics: float) -> IterationReport:
    values = {**dict.fromkeys(NAMES, -1234.5678), **metrics}
    return IterationReport(iteration, 1000 * iteration, 100_000, 0.5 * iteration, values)


def in_terminal(*arguments: str, **environment: str) -> str:
    """What a program writes to a terminal of 80 x 24."""
    main, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal, env=variables, close_fds=True,
    )  # fmt: skip
    os.close(terminal)
    data, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([main], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(main, 65_536)
        except OSError:  # Linux's end of file on a terminal
            break
        if not piece:
            break
        data += piece
    process.wait(timeout=10)
    os.close(main)
    return data.decode()


def test_live_display_fits_80_columns_and_leaves_the_terminal_sane() -> None:
    output = in_terminal()
    text = ESCAPE.sub("", output)
    assert "100%" in text and "123.4 ± 5" in text and "all done" in text and "a note" in text
    assert "Toy, 2 ranks" in text
    assert text.count("saved") >= 4 and text.count("from elsewhere") == 4
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 80
    assert "\x1b[?25l" not in output, "the cursor stays visible: even kill -9 leaves the terminal sane"
    assert "\x1b[?1049h" not in output, "no alternate screen: the scrollback keeps the run"


def test_an_interrupt_leaves_the_terminal_sane() -> None:
    output = in_terminal("fail")
    assert "\x1b[?25l" not in output or output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    last_style = re.findall(r"\x1b\[([0-9;]*)m", output)[-1]
    assert last_style in ("0", ""), "colours are reset"
    assert "KeyboardInterrupt" in output


def test_a_dumb_terminal_gets_plain_lines() -> None:
    output = in_terminal(TERM="dumb")
    assert "\x1b" not in output and "iteration 1" in output and "iteration 4" in output


def test_no_color_is_respected() -> None:
    styles = re.findall(r"\x1b\[([0-9;]*)m", in_terminal(NO_COLOR="1"))
    assert not any(re.search(r"\b(3[0-7]|4[0-7]|9[0-7])\b", style) for style in styles)


def test_a_pipe_gets_the_first_and_the_last_line_without_escapes() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=60,
    )
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("iteration")]
    assert [line.split()[1] for line in lines] == ["1", "4"]
    assert done.stdout.endswith("all done\n")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(seconds_per_iteration: float, count: int, verbosity: int = 0) -> list[int]:
    clock, stream = Clock(), io.StringIO()
    reporter = ConsoleReporter(file=stream, clock=clock, verbosity=verbosity)
    reporter.start(RunStart(EXPERIMENT, 1))
    for iteration in range(1, count + 1):
        clock.now += seconds_per_iteration
        reporter.iteration(report(iteration))
    reporter.finish("done")
    found = re.findall(r"^iteration (\d+)", stream.getvalue(), re.MULTILINE)
    return [int(number) for number in found]


def test_lines_come_at_a_sensible_interval() -> None:
    assert lines_of(1.0, 13) == [1, 6, 11, 13]
    assert lines_of(10.0, 4) == [1, 2, 3, 4]
    assert lines_of(1.0, 4, verbosity=1) == [1, 2, 3, 4]
    assert lines_of(1.0, 4, verbosity=-1) == []


def test_the_interval_grows_with_the_run() -> None:
    assert line_interval(10) == 5
    assert line_interval(1000) == 10
    assert line_interval(1e6) == 60


def test_quiet_leaves_only_warnings() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(file=stream, verbosity=-1)
    reporter.start(RunStart(EXPERIMENT, 1, notes=["a note"]))
    reporter.iteration(report(1))
    reporter.message("saved")
    reporter.message("odd", level="warning")
    reporter.finish("done")
    assert stream.getvalue() == "Warning: odd\n"


def test_unknown_numbers_are_a_dash() -> None:
    line = plain_line(IterationReport(1, 0, 100, 0.0, {"episode_return_mean": math.nan}), math.nan)
    assert "return - (last 100: -)" in line and "nan" not in line


def iteration_lines(stream: io.StringIO) -> list[str]:
    """The lines about iterations; ``--verbose`` adds indented ones with further numbers."""
    return [line for line in stream.getvalue().splitlines() if line.startswith("iteration ")]


def test_the_latest_scores_stay_while_no_episode_ends() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(file=stream, verbosity=1)
    reporter.start(RunStart(EXPERIMENT, 1))
    none = dict.fromkeys(
        (
            "episode_return_mean",
            "episode_return_std",
            "episode_return_min",
            "episode_return_max",
            "episode_length_mean",
        ),
        math.nan,
    )
    for metrics in (
        none,
        {"episode_return_mean": 7.0, "episode_return_std": 2.0, "episode_length_mean": 33.0},
        none,
    ):
        reporter.iteration(report(1, **metrics))
    before, during, after = iteration_lines(stream)
    assert "return - " in before and "length - " in before
    assert "return 7 ± 2 " in during and "return 7 ± 2 " in after and "length 33 " in after


def test_long_lines_can_be_copied() -> None:
    main, terminal = pty.openpty()
    text, data = ("word " * 40 + "end").encode(), b""
    with os.fdopen(terminal, "w") as stream:
        reporter = ConsoleReporter(file=stream)
        reporter.start(RunStart(EXPERIMENT, 1))
        reporter.finish(text.decode())
        reporter.close()
        stream.flush()
        # A terminal hands over what it has, in pieces.
        while text not in data and select.select([main], [], [], 2.0)[0]:
            data += os.read(main, 65_536)
    os.close(main)
    assert text in data


def test_time_left_follows_the_recent_rate() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(file=stream, verbosity=1)
    reporter.start(RunStart(EXPERIMENT, 1, resumed_from=49))
    for iteration in (50, 51):  # 1000 steps in 0.5 s; 49,000 steps left are 24.5 s
        reporter.iteration(report(iteration, steps_per_second=2000.0))
    reporter.close()
    first, second = iteration_lines(stream)
    assert "0:25 left" in first and "0:24 left" in second


def test_an_old_encoding_is_no_failure() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    reporter = ConsoleReporter(file=stream)
    reporter.start(RunStart(EXPERIMENT, 1))
    reporter.iteration(report(1, episode_return_mean=1.0, episode_return_std=1.0))
    reporter.finish("done")
    stream.seek(0)
    assert "1 +/- 1" in stream.read()


def test_a_closed_stream_is_no_terminal(tmp_path: Path) -> None:
    file = open(tmp_path / "log", "w")  # noqa: SIM115
    file.close()
    assert not is_live(file)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_picture_fits_any_width(width: int) -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(
        render("Toy", report(3, **{"icm/loss": 0.1, "rnd/" + "x" * 90: 2.0}), 12.0, everything=True)
    )
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    if width >= 80:
        text = "\n".join(lines)
        assert (
            "explained variance" in text and "-1,235 ± -1,235" in text and "…" not in text.replace("x…", "")
        )


def test_an_announcement_waits_for_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppo_and_friends.reporting.console.is_live", lambda stream: True)
    stream = io.StringIO()
    reporter = ConsoleReporter(file=stream)
    reporter.start(RunStart(EXPERIMENT, 1))
    assert reporter.interrupted("SIGINT: saving.")
    assert "saving" not in stream.getvalue()  # nothing is written inside the handler
    lines = Console(width=80, file=io.StringIO()).render_lines(reporter._picture())
    assert "SIGINT: saving." in "".join(segment.text for segment in lines[-1])
    reporter.finish("stopped")
    assert stream.getvalue().rstrip().endswith("stopped")
    assert not ConsoleReporter(file=stream).interrupted("nobody draws")


def test_a_report_can_be_drawn_as_soon_as_it_is_there() -> None:
    class DrawnAtOnce(ConsoleReporter):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_last" and value is not None:
                self._picture()  # as the display's own thread may

    reporter = DrawnAtOnce(file=io.StringIO())
    reporter.start(RunStart(EXPERIMENT, 1))
    reporter.iteration(report(1))


def test_notebooks_get_plain_text_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    stream = io.StringIO()
    reporter = ConsoleReporter(file=stream)
    reporter.start(RunStart(EXPERIMENT, 1))
    reporter.iteration(
        IterationReport(1, 100, 1000, 1.0, {"episode_return_mean": 5.0, "episode_return_std": 1.0})
    )
    reporter.finish("done")
    print_evaluation(Evaluation("Toy-v0", 100, (Episode(5.0, 9),)), stream)
    text = stream.getvalue()
    assert "\x1b" not in text and text.index("iteration 1") < text.index("done") < text.index("episode")
