"""StdClip: the bound by hand, and nothing below it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import Friend
from ppo_and_friends.friends.state_dependent_exploration import StateDependentHead
from ppo_and_friends.friends.std_clip import StdClip
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import FriendSpec, NetworkSettings, friend
from ppo_and_friends.settings.schedules import Schedule, Status
from tests.engine import Identity, experiment, on_ranks

BOX = partial(Identity, spaces.Box(-2.0, 2.0, (2,)))


def deviations(*friends: FriendSpec, iterations: int, size: int = 1) -> list[tuple[Tensor, int]]:
    """Rank 0's deviation, and the timesteps, after each iteration."""

    def work(trainer: Trainer, _: Any) -> list[tuple[Tensor, int]]:
        found = []
        for _ in range(iterations):
            trainer.train_iteration()
            assert trainer.network.policy_head.log_std is not None
            found.append((trainer.network.policy_head.log_std.detach().exp().clone(), trainer.timesteps))
        return found

    settings = experiment(
        BOX, friends, num_envs=7, num_timesteps=1_400, rollout_timesteps=504, minibatch_size=126
    )
    return on_ranks(settings, size, work)[0]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_bound_falls_and_holds(shape: Any, size: int) -> None:
    seen = deviations(friend("StdClip", limit=Schedule(1.0, 0.1, shape)), iterations=3, size=size)
    plain = deviations(iterations=3, size=size)
    for (deviation, timesteps), (free, _) in zip(seen, plain, strict=True):
        bound = Schedule(1.0, 0.1, shape).value(Status(timesteps / 1_400))
        assert deviation.max().item() <= bound * (1 + 1e-6) < free.min().item()
    assert seen[0][1] < seen[1][1] < 1_400


def test_the_bound_itself() -> None:
    member = StdClip("0.5:0.1")
    member._log_std = torch.nn.Parameter(torch.zeros(1))
    found = []
    for done in (0.0, 0.25, 1.0, 2.0):
        member.before_update(Controls(1e-3, 0.2, 0.0, status_after=Status(done)))
        member.after_update({})
        found.append(member.metrics()["limit"])
    assert found == pytest.approx([0.5, 0.4, 0.1, 0.1])


def test_below_the_bound_it_changes_nothing() -> None:
    plain = deviations(iterations=2)
    held = deviations(friend("StdClip", limit="9:8"), iterations=2)
    for (one, _), (other, _) in zip(held, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("bounds", [(0.0, 0.1), (1.0, -0.1), (math.inf, 0.1)])
def test_bounds_out_of_range_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="positive and finite"):
        StdClip(Schedule(*bounds) if math.isfinite(bounds[0]) else bounds[0])


def test_actions_without_a_deviation_are_refused() -> None:
    settings = experiment(
        partial(Identity, spaces.Discrete(3)), (friend("StdClip"),), network=NetworkSettings()
    )
    with pytest.raises(UsageError, match=r"Box action space and .* not Discrete"):
        on_ranks(settings, 1, lambda trainer, _: None)


class OtherHead(Friend):
    """Replaces the policy's head by one of its own."""

    def adapt(self, network: ActorCritic) -> ActorCritic:
        network.policy_head = StateDependentHead(network.policy_head, 0.0)  # type: ignore[assignment]
        return network


def test_a_head_that_it_does_not_know_is_refused() -> None:
    settings = experiment(BOX, (friend(OtherHead), friend("StdClip")))
    with pytest.raises(UsageError, match=r"usual policy head, not Box.* and StateDependentHead"):
        on_ranks(settings, 1, lambda trainer, _: None)
