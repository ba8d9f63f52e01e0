from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.schedules import (
    Schedule,
    ScheduleLike,
    Status,
    cosine,
    linear,
    logarithmic,
    schedule_text,
    steps,
)

ADAPTER: TypeAdapter[Schedule] = TypeAdapter(ScheduleLike)


@pytest.mark.parametrize(
    ("schedule", "progress", "value"),
    [
        (Schedule(3.0), 0.7, 3.0),
        (linear(2.0), 0.25, 1.5),
        (linear(2.0, 1.0), 0.5, 1.5),
        (linear(2.0, 1.0), 1.0, 1.0),
        (linear(2.0, 1.0), 1.2, 1.0),  # the floor holds when the budget is overrun
        (linear(2.0, 1.0), -0.2, 2.0),
        (linear(0.0, 4.0), 0.25, 1.0),
    ],
)
def test_values(schedule: Schedule, progress: float, value: float) -> None:
    assert schedule.value(Status(progress)) == value


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(-1, 2))
def test_stays_between_its_ends(start: float, end: float, progress: float) -> None:
    slack = 1e-9 * max(start, end)
    assert min(start, end) - slack <= Schedule(start, end).value(Status(progress)) <= max(start, end) + slack


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, Schedule(1.0)),
        (3e-4, Schedule(3e-4)),
        ("3e-4", Schedule(3e-4)),
        ("1e-3:0", linear(1e-3)),
        ("1:0.5", linear(1.0, 0.5)),
        ({"start": 1.0, "end": 0.5}, linear(1.0, 0.5)),
        (linear(2.0), linear(2.0)),
        ("1e-3:1e-5:log", logarithmic(1e-3, 1e-5)),
        ("1:0:cosine", cosine(1.0)),
        ("1,0.5@100,0.1@2e5", steps(1.0, (100, 0.5), (2e5, 0.1))),
        ([1, "0.5@episode_return_mean_100>=200"], steps(1.0, (200, 0.5), by="episode_return_mean_100")),
        ("my_module:my_function", Schedule(function="my_module:my_function")),
    ],
)
def test_accepts(given: object, expected: Schedule) -> None:
    assert ADAPTER.validate_python(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        -1,
        "-1",
        "1:-2",
        "a",
        "1:b",
        "1:2:3",
        "1:0:log",
        "1,2",
        "1,2@5,3@4",
        "1,2@a>=1,3@b>=2",
        "",
        "nan",
        True,
        None,
        [1, 2],
    ],
)
def test_refuses(given: object) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(given)


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        (cosine(4.0, 1.0), 0.5, 2.5),
        (cosine(4.0, 1.0), 1 / 3, 1.0 + 3.0 * 0.75),
        (cosine(4.0, 1.0), 1.0, 1.0),
        (logarithmic(1.0, 1e-4), 0.5, 1e-2),
        (logarithmic(1.0, 1e-4), 1.0, 1e-4),
    ],
)
def test_shapes(schedule: Schedule, progress: float, expected: float) -> None:
    assert schedule.value(Status(progress)) == pytest.approx(expected)


def test_steps_are_reached_by_any_number_of_the_status() -> None:
    schedule = steps(0.5, (100, 0.25), (200, 0.125), by="Evaluator/score")
    for highest, value in ((None, 0.5), (99.0, 0.5), (100.0, 0.25), (199.0, 0.25), (1e9, 0.125)):
        status = Status(0.3, {} if highest is None else {"Evaluator/score": highest, "timesteps": 1e9})
        assert schedule.value(status) == value


def below(status: Status) -> float:
    return -1.0


def broken(status: Status) -> float:
    return 1.0 / (status.progress - status.progress)


def half_way(status: Status) -> float:
    return 1.0 if status.progress < 0.5 else float(status.highest["kl"])


def test_a_function_gets_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "of_a_user", sys.modules[__name__])
    schedule = ADAPTER.validate_python("of_a_user:half_way")
    assert [schedule.value(Status(p, {"kl": 0.25})) for p in (0.0, 0.7)] == [1.0, 0.25]
    for name, least, said in (
        ("of_a_user:half_way", 0.0, r"progress 0\.7: returned nan, not a finite number of at least 0"),
        ("of_a_user:below", 0.0, r"returned -1, not a finite number of at least 0"),
        ("of_a_user:broken", -1.0, "ZeroDivisionError"),
        ("no_such_module:f", -1.0, "no_such_module"),
    ):
        with pytest.raises(UsageError, match=said):
            Schedule(function=name).value(Status(0.7, {"kl": float("nan")}), least)


@pytest.mark.parametrize("text", ["0.001", "0.001:0", "1:0.1:cosine", "1,0.5@100", "1,0.5@kl>=0.1", "a:b"])
def test_text_there_and_back(text: str) -> None:
    plain = TypeAdapter(Schedule).dump_python(ADAPTER.validate_python(text))
    assert ADAPTER.validate_python(schedule_text(plain)) == ADAPTER.validate_python(text)
