"""Every benchmark that a user starts tells what it does, by the command that the docs show."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass

import pytest

from benchmarks.report import command_line

NAMES = (
    "learning",
    "contrib",
    "memory",
    "parity",
    "scaling_model",
    "self_play",
    "speed",
    "speed_gate",
    "time_to_score",
)


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_the_process_arguments(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert not end.value.code
    said = capsys.readouterr().out
    assert f"benchmarks/{name}.py" in said and " ".join(module.Options.__doc__.split()[:3]) in said


@dataclass(frozen=True)
class Nothing:
    """No options."""


def test_a_reader_may_leave_early(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert command_line(Nothing, "nothing.py", lambda _: print("x" * 100_000) or 0, []) == 0
        monkeypatch.undo()
