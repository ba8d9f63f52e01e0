"""Every environment that EnvPool may run does what Gymnasium's does, from equal states."""

from __future__ import annotations

import pytest

from ppo_and_friends.vector import envpool
from tests.vector.equal_states import BOX2D, CLASSIC, HIDDEN, compare

pytestmark = pytest.mark.skipif(not envpool.installed(), reason="EnvPool has no wheel here")

STANDS = {"HumanoidStandup-v5": 1e-3, "Humanoid-v5": 1e-4}
"""Bodies with many contacts: the solver's tolerance alone makes as much of a difference."""


def test_every_environment_of_envpool_can_be_compared() -> None:
    assert envpool.VERIFIED | {"Pendulum-v1"} == set(CLASSIC) | set(HIDDEN) | set(BOX2D)


@pytest.mark.parametrize("id", sorted(envpool.VERIFIED))
def test_the_same_actions_from_the_same_state_lead_to_the_same(id: str) -> None:
    found = compare(id, 1000 if id in CLASSIC else 60, horizon=20)
    assert found.ends == 0
    # Rewards and classic control's observations have single precision.
    assert found.median <= STANDS.get(id, 1e-6)
    if id not in STANDS:
        assert found.observation < 2e-5 and found.reward < 1e-4


def test_a_rule_that_is_another_is_found() -> None:
    """EnvPool's Pendulum moves by the unclipped speed: by 0.05 radians too much at the limit."""
    found = compare("Pendulum-v1", 1000)
    assert found.observation > 0.01 and found.beyond > 10
    # A torque of 2 and gravity add up to 1.5 * 10 * 0.05 + 3 * 2 * 0.05 = 1.05 to the speed, for 0.05 s.
    assert found.observation < 1.05 * 0.05 + 1e-6
