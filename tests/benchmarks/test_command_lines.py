"""Every benchmark that a user starts tells what it does, by the command that the docs show."""

from __future__ import annotations

import importlib
import sys

import pytest

NAMES = ("learning", "masks", "memory", "parity", "scaling_model", "speed", "speed_gate", "time_to_score")


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
