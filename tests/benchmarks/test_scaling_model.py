"""The cost model's arithmetic, on costs that were made by a known one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling_model import Cost, evaluate, fit, main, networks, report, sum_seconds
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.registry import resolve

FIXED, DIVIDED, ALPHA, BETA = 0.1, 0.8, 2e-6, 1e-10


def measured(cores: int = 2) -> list[dict[str, Any]]:
    """What ``measure_scaling.py`` would tell of the model above; sums cost 100 times more without a core."""
    rows = []
    for ranks in (1, 2, 4, 8):
        slow = 100 if ranks > cores else 1
        sums = {str(size): slow * sum_seconds(ALPHA, BETA, ranks, size) for size in (256, 40_000, 4_000_000)}
        known = {
            "cpu_seconds": FIXED + DIVIDED / ranks,
            "sums": 40 if ranks > 1 else 3,
            "sum_bytes": 1_600_000,
        }
        known |= {"parameters": 10_000, "num_envs": 32, "timesteps": 9_000}
        rows.append({"ranks": ranks, "iterations": {"Walker": known}, "allreduce": sums if ranks > 1 else {}})
    return rows


def test_an_iterations_cost_by_hand() -> None:
    cost = Cost(FIXED, DIVIDED, ALPHA, BETA, sums=40, size=40_000)
    # 40 sums of 3 stages of 2 us and 40,000 bytes of 0.1 ns (4 us): 400 us beside 0.1 + 0.8 / 8 s.
    assert cost.communication(8) == pytest.approx(400e-6)
    assert cost.computing(8) == pytest.approx(0.2)
    assert cost.share(8) == pytest.approx(400e-6 / 0.2004)
    assert cost.communication(1) == 0.0 and cost.share(1) == 0.0
    # Each of 64 ranks with the work of one of 8: 6 stages, 640 us, beside 0.2 s.
    assert cost.share(64, 8) == pytest.approx(640e-6 / 0.20064)


def test_where_sums_begin_to_dominate() -> None:
    # 1 s a stage: 3 s at 8 ranks beside 1 + 24 / 8 = 4 s, 4 s at 16 beside 2.5.
    assert Cost(1.0, 24.0, 1.0, 0.0).dominated_from() == 16
    assert Cost(1.0, 24.0, 1e-9, 0.0).dominated_from() is None


def compute(rows: list[tuple[int, float]]) -> tuple[float, float]:
    return fit([(1.0, 1.0 / ranks) for ranks, _ in rows], [seconds for _, seconds in rows])


def test_fits_find_what_made_the_costs() -> None:
    assert compute([(ranks, FIXED + DIVIDED / ranks) for ranks in (1, 2, 4, 8)]) == pytest.approx((0.1, 0.8))
    found = networks(measured(8), cores=8)
    assert list(found) == ["a core each"] and found["a core each"] == pytest.approx((2e-6, 1e-10))


def test_no_part_is_negative() -> None:
    # Falls faster than 1 / W: the best without a negative part has nothing fixed.
    fixed, divided = compute([(1, 1.0), (2, 0.4), (4, 0.1)])
    assert fixed == 0.0 and divided > 0.0
    fixed, divided = compute([(1, 1.0), (2, 1.1), (4, 1.2)])
    assert divided == 0.0 and 1.0 < fixed < 1.2


def test_ranks_that_share_cores_are_fitted_apart() -> None:
    found = networks(measured(), cores=2)
    assert found["a core each"][0] == pytest.approx(2e-6)
    assert found["sharing cores"][0] == pytest.approx(2e-4)
    with pytest.raises(UsageError, match="two ranks"):
        networks(measured()[:1], cores=2)


def test_the_reading_follows_the_model_and_is_reported() -> None:
    results = evaluate(measured(8), cores=8)
    launcher = results["models"]["a core each"]["launchers"]["Walker"]
    # Gradients are summed from two ranks on: 40 sums of 40,000 bytes, not the 3 of a rank alone.
    assert launcher["sums"] == 40 and launcher["size"] == 40_000
    (eight,) = [one for one in launcher["read"] if one["ranks"] == 8]
    assert eight["rate"] == pytest.approx(9_000 / 0.2004)
    (grown,) = [one for one in launcher["grown"] if one["ranks"] == 64]
    assert grown["rate"] == pytest.approx(8 * 9_000 / 0.20064)
    stamped = results | {"measured_at": "now", "cores": 8, "load": 0.0, "source": {"commit": None}}
    text = report(stamped)
    assert "| Walker | 10,000 | 32 | 9,000 | 40 | 100.0 | 800.0 | 900.0 (900.0) |" in text


def test_measurements_from_elsewhere_are_read_out(tmp_path: Path) -> None:
    paths = []
    for one in measured():
        paths.append(tmp_path / f"{one['ranks']}.json")
        paths[-1].write_text(json.dumps(one))
    output = tmp_path / "model.json"
    assert main(["--measured", *map(str, paths), "--output", str(output)]) == 0
    assert json.loads(output.read_text())["measured"] == measured()
    assert "| Walker, grown |" in output.with_suffix(".md").read_text()


@pytest.mark.slow
@pytest.mark.mpi
def test_two_ranks_are_measured(tmp_path: Path) -> None:
    from benchmarks.jobs import on_ranks

    spec = {"environments": ["CartPole"], "seconds": 0.2, "sizes": [256, 40_000]}
    result = on_ranks("measure_scaling.py", spec, 2, limit=100.0)
    one = result["iterations"]["CartPole"]
    # One for each minibatch of each epoch; the other sums are few and small.
    ppo = resolve("CartPole").ppo
    steps = ppo.epochs * ppo.rollout_timesteps // ppo.minibatch_size
    assert result["ranks"] == 2 and steps <= one["sums"] <= steps + 8
    assert 0 < one["cpu_seconds"] <= one["most_cpu_seconds"]
    assert 0 < result["allreduce"]["256"] < 1
    assert one["sum_bytes"] > steps * 4 * one["parameters"]
