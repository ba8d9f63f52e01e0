"""What the comparison with sb3-contrib refuses, how it files its runs, and rates of very short ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.contrib import Options, contrib_spec, row_of
from benchmarks.contrib_ours import measured
from benchmarks.runs import Changes, Run
from ppo_and_friends.errors import UsageError

LSTM = ("network.memory=lstm",)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("CardMemory", (), "memory and action masks"),
        ("CardMemory", LSTM, "memory and action masks"),
        ("CartPole", (), "neither memory nor action masks"),
        ("TMaze", (), "LSTMs only"),
    ],
)
def test_what_neither_peer_can_do_is_refused_by_name(name: str, changed: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: .*{said}"):
        contrib_spec(Run.of(name, 1, Path(), Changes(changed)), episodes=1)


@pytest.mark.parametrize(
    ("name", "changed", "recurrent"),
    [
        ("CartPolePositions", (), True),
        ("TMaze", LSTM, True),
        ("Taxi", (), False),
        ("CardMemory", ("network.memory=none",), False),
        ("CardMemory", (*LSTM, "environment.action_masks=off"), True),
    ],
)
def test_either_alone_is_compared(name: str, changed: tuple[str, ...], recurrent: bool) -> None:
    spec = contrib_spec(Run.of(name, 1, Path(), Changes(changed)), episodes=1)
    assert (spec["memory"] is not None) == recurrent


def test_changed_runs_are_filed_apart_from_the_launchers_own() -> None:
    assert row_of("TMaze", Options()) == "TMaze"
    changed = row_of("TMaze", Options(timesteps=5000, set=LSTM))
    assert changed == "TMaze (num_timesteps=5000, network.memory=lstm)"


@pytest.mark.parametrize("iterations", [1, 3])
def test_rates_of_a_run_of_few_iterations_are_finite(iterations: int) -> None:
    small = [f"num_timesteps={64 * iterations}", "ppo.rollout_timesteps=64", "ppo.minibatch_size=32"]
    changed = [*small, "ppo.sequence_length=4", "environment.num_envs=4"]
    found = measured({"name": "CartPolePositions", "seed": 1, "changes": changed, "episodes": 1})
    for rate in (found["steps_per_second"], found["steps_per_cpu_second"]):
        assert 0.0 < rate < math.inf
