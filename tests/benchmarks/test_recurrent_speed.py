"""What a memory costs: what is compared is equal but for the memory, and the table's shares."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.recurrent_speed import KINDS, main, rates, table, variants
from ppo_and_friends.settings.overrides import apply_settings


@pytest.mark.parametrize(
    ("name", "length"), [("CartPolePositions", 16), ("BipedalWalker", 16), ("TMaze", 64)]
)
def test_variants_differ_in_nothing_but_memory(name: str, length: int) -> None:
    made = variants(name)
    plain = made["none"]
    assert plain.network.memory is None
    for kind, experiment in made.items():
        assert (experiment.ppo.sequence_length == length) == (kind != "none")
        network = dataclasses.replace(plain.network, memory=None, memory_shared=False)
        assert dataclasses.replace(experiment.network, memory=None, memory_shared=False) == network
        ppo = dataclasses.replace(experiment.ppo, sequence_length=plain.ppo.sequence_length)
        assert dataclasses.replace(experiment, network=plain.network, ppo=ppo) == plain


def test_rates_are_of_whole_iterations() -> None:
    small = ("ppo.rollout_timesteps=64", "ppo.minibatch_size=32", "environment.num_envs=4")
    experiments = {kind: apply_settings(e, small) for kind, e in variants("CartPolePositions").items()}
    found = rates(experiments, iterations=2)
    assert list(found) == list(KINDS)
    assert all(len(each) == 2 and min(each) > 0.0 for each in found.values())


def test_without_an_iteration_there_is_no_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "recurrent.json"
    assert main(["--iterations", "0", "--output", str(output)]) == 2
    assert "--iterations must be at least 1, not 0." in capsys.readouterr().err and not output.exists()


def test_more_iterations_than_the_launcher_s_budget_has() -> None:
    small = (
        "ppo.rollout_timesteps=64",
        "ppo.minibatch_size=32",
        "environment.num_envs=4",
        "num_timesteps=64",
    )
    plain = apply_settings(variants("CartPolePositions")["none"], small)
    assert len(rates({"none": plain}, iterations=3)["none"]) == 3


def test_shares_are_of_the_median_without_memory() -> None:
    rows = {
        "A": {kind: [rate] for kind, rate in zip(KINDS, (1000.0, 500.0, 600.0, 250.0, 300.0), strict=True)}
    }
    rows["A"]["none"] = [900.0, 1000.0, 5000.0]
    assert table(rows).splitlines()[-1] == "| A | 1,000 | 0.50 | 0.60 | 0.25 | 0.30 |"
