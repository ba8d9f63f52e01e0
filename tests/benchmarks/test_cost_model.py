"""The cost model's arithmetic, on costs that were made by a known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.cost_model import Compute, Cost, Network, fit_compute, fit_network
from benchmarks.scaling_model import Options, evaluate, main, networks, report
from ppo_and_friends.errors import UsageError

NETWORK = Network(alpha=2e-6, beta=1e-10)
COMPUTE = Compute(fixed=0.1, divided=0.8)


def measured(cores: int = 2) -> list[dict[str, Any]]:
    """What ``measure_scaling.py`` would tell of the model above; sums cost 100 times more without a core."""
    rows = []
    for ranks in (1, 2, 4, 8):
        slow = 100 if ranks > cores else 1
        sums = {str(size): slow * NETWORK.seconds(ranks, size) for size in (256, 40_000, 4_000_000)}
        known = {
            "cpu_seconds": COMPUTE.seconds(ranks),
            "sums": 40 if ranks > 1 else 3,
            "sum_bytes": 1_600_000,
        }
        known |= {"parameters": 10_000, "num_envs": 32, "timesteps": 9_000}
        rows.append({"ranks": ranks, "iterations": {"Walker": known}, "allreduce": sums if ranks > 1 else {}})
    return rows


def test_an_iterations_cost_by_hand() -> None:
    cost = Cost(COMPUTE, NETWORK, sums=40, size=40_000)
    # 40 sums of 3 stages of 2 us and 40,000 bytes of 0.1 ns (4 us): 400 us beside 0.1 + 0.8 / 8 s.
    assert cost.communication(8) == pytest.approx(400e-6)
    assert cost.seconds(8) == pytest.approx(0.2004)
    assert cost.share(8) == pytest.approx(400e-6 / 0.2004)
    assert cost.communication(1) == 0.0 and cost.seconds(1) == pytest.approx(0.9)
    # Each of 64 ranks with the work of one of 8: 6 stages, 640 us, beside 0.2 s.
    assert cost.grown(64, 8) == pytest.approx(640e-6 / 0.20064)


def test_where_sums_begin_to_dominate() -> None:
    # 1 s a stage: 3 s at 8 ranks beside 1 + 24 / 8 = 4 s, 4 s at 16 beside 2.5.
    cost = Cost(Compute(1.0, 24.0), Network(1.0, 0.0), sums=1, size=4)
    assert cost.dominated_from() == 16
    assert Cost(Compute(1.0, 24.0), Network(1e-9, 0.0), sums=1, size=4).dominated_from() is None


def test_fits_find_what_made_the_costs() -> None:
    found = fit_compute([(ranks, COMPUTE.seconds(ranks)) for ranks in (1, 2, 4, 8)])
    assert (found.fixed, found.divided) == pytest.approx((0.1, 0.8))
    rows = [(ranks, size, NETWORK.seconds(ranks, size)) for ranks in (2, 8) for size in (256, 40_000, 10**6)]
    network = fit_network(rows)
    assert (network.alpha, network.beta) == pytest.approx((2e-6, 1e-10))


def test_no_part_is_negative() -> None:
    # Falls faster than 1 / W: the best without a negative part has nothing fixed.
    found = fit_compute([(1, 1.0), (2, 0.4), (4, 0.1)])
    assert found.fixed == 0.0 and found.divided > 0.0
    rising = fit_compute([(1, 1.0), (2, 1.1), (4, 1.2)])
    assert rising.divided == 0.0 and 1.0 < rising.fixed < 1.2


def test_ranks_that_share_cores_are_fitted_apart() -> None:
    found = networks(measured(), Options(), cores=2)
    assert found["a core each"].alpha == pytest.approx(2e-6)
    assert found["sharing cores"].alpha == pytest.approx(2e-4)
    assert list(networks(measured(8), Options(), cores=8)) == ["a core each"]
    given = networks(measured(), Options(alpha=3e-6, beta=1e-9), cores=2)
    assert given == {"given": Network(3e-6, 1e-9)}
    with pytest.raises(UsageError, match="two ranks"):
        networks(measured()[:1], Options(), cores=2)


def test_the_reading_follows_the_model_and_is_reported() -> None:
    results = evaluate(measured(8), Options(), cores=8)
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


def test_half_a_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--alpha", "1e-6"]) == 2
    assert "--beta" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.mpi
def test_two_ranks_are_measured(tmp_path: Path) -> None:
    from benchmarks.measurements import on_ranks

    spec = {"environments": ["CartPole"], "seconds": 0.2, "sizes": [256, 40_000]}
    result = on_ranks("measure_scaling.py", spec, 2, limit=100)
    one = result["iterations"]["CartPole"]
    # Two minibatches in each of 8 epochs; the other sums are few and small.
    assert result["ranks"] == 2 and 16 <= one["sums"] <= 24
    assert 0 < one["cpu_seconds"] <= one["most_cpu_seconds"]
    assert 0 < result["allreduce"]["256"] < 1
    assert one["sum_bytes"] > 16 * 4 * one["parameters"]
