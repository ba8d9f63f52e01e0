from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ppo_and_friends.settings.schedules import Schedule, ScheduleLike, linear

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
    assert schedule.at(progress) == value


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(-1, 2))
def test_stays_between_its_ends(start: float, end: float, progress: float) -> None:
    slack = 1e-9 * max(start, end)
    assert min(start, end) - slack <= Schedule(start, end).at(progress) <= max(start, end) + slack


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
    ],
)
def test_accepts(given: object, expected: Schedule) -> None:
    assert ADAPTER.validate_python(given) == expected


@pytest.mark.parametrize("given", [-1, "-1", "1:-2", "a", "1:b", "1:2:3", "", "nan", True, None, [1, 2]])
def test_refuses(given: object) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(given)
