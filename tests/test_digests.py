"""What small runs of every launcher and every friend learn is what they learned when it was recorded.

After a change that means to change that: ``python tests/digests.py --write``.
"""

from __future__ import annotations

import pytest
import torch

from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS
from tests.digests import EXPERIMENTS, compute, difference, differences, digest, recorded

TOLERANCE = 1e-6
"""Processors differ in the last bits of double precision, and learning makes more of them of that."""

RECORDED = recorded()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_learned_is_what_was_recorded(name: str) -> None:
    found, expected = compute(name), RECORDED[name]
    if found["backend"] != expected["backend"]:
        pytest.skip(f"recorded on {expected['backend']}, which draws other episodes than {found['backend']}")
    assert list(found["tensors"]) == list(expected["tensors"])
    wrong = {
        tensor: apart for tensor, apart in differences(found, expected).items() if not apart <= TOLERANCE
    }
    assert not wrong


def test_nothing_is_recorded_that_is_not_compared() -> None:
    assert set(RECORDED) == set(EXPERIMENTS)


def test_every_friend_has_a_part() -> None:
    used = {spec.name for make in EXPERIMENTS.values() for spec in make().friends}
    assert {*BUILT_IN, *STARTING_POINTS, *OF_AGENTS} <= used


def test_a_digest_tells_tensors_apart() -> None:
    tensor = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    small, swapped = tensor.clone(), tensor[:, torch.randperm(40)]
    small[1, 5] += 1e-3
    expected = digest(tensor)
    assert difference(digest(tensor * (1.0 + 1e-9)), expected) < TOLERANCE
    for other in (small, swapped, -tensor, tensor.T, torch.full_like(tensor, torch.nan)):
        assert difference(digest(other), expected) > 10 * TOLERANCE
