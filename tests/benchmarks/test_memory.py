"""The table of memory, and one launcher measured for real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory
from benchmarks.memory import peak, table


def test_too_much_memory_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str, iterations: int) -> dict[str, float]:
        return {"megabytes": 700.0 if name == "B" else 300.4, "num_envs": 8, "rollout_timesteps": 1024} | {
            "limit": 600.0
        }

    monkeypatch.setattr(memory, "peak", fake)
    output = tmp_path / "memory.json"
    assert memory.main(["--environments", "A", "--output", str(output)]) == 0
    assert memory.main(["--environments", "A", "B", "--output", str(output)]) == 1
    rows = json.loads(output.read_text())["rows"]
    assert table(rows).splitlines()[2:] == ["| A | 8 | 1,024 | 300 | 600 |", "| B | 8 | 1,024 | 700 | 600 |"]
    assert output.with_suffix(".md").read_text() == table(rows)


@pytest.mark.slow
def test_a_runs_peak_is_that_of_its_own_process() -> None:
    held = np.ones(700 * 2**17)  # 700 MB here, which are not the run's
    result = peak("CartPole", 1)
    assert held[-1] == 1.0
    # More than torch alone takes, less than a rank may.
    assert 150 < result["megabytes"] < result["limit"] == 600
