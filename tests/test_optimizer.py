"""The flat optimizer against plain Adam and torch's own clipping."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.ppo.optimizer import FlatOptimizer, ParameterGroup


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def flat(module: nn.Module, limit: float | None = 0.5, rate: float | None = None) -> FlatOptimizer:
    group = ParameterGroup("ppo", list(module.parameters()), rate)
    return FlatOptimizer([group], epsilon=1e-5, max_grad_norm=limit)


def loss(module: nn.Module, step: int) -> torch.Tensor:
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step)).double()
    result: torch.Tensor = module(inputs).square().sum() * (3.0 if step % 2 else 0.01)
    return result


@pytest.mark.parametrize("limit", [None, 0.5])
def test_as_plain_adam(limit: float | None) -> None:
    ours, theirs = net(), net()
    optimizer = flat(ours, limit)
    peer = torch.optim.Adam(theirs.parameters(), eps=1e-5, fused=False, foreach=False)
    for step in range(6):
        rate = 1e-2 / (step + 1)
        optimizer.zero_gradients()
        loss(ours, step).backward()
        norm = optimizer.step(rate)
        peer.zero_grad()
        loss(theirs, step).backward()
        gradients = [parameter.grad for parameter in theirs.parameters() if parameter.grad is not None]
        expected = float(torch.sqrt(sum(g.square().sum() for g in gradients)))  # type: ignore[arg-type]
        assert norm == pytest.approx(expected)
        if limit is not None and expected > limit:
            for gradient in gradients:
                gradient *= limit / expected
        peer.param_groups[0]["lr"] = rate
        peer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_parameters_keep_their_values_and_live_in_one_buffer() -> None:
    ours, before = net(), net()
    optimizer = flat(ours)
    for mine, other in zip(ours.parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, other)
    together = torch.cat([parameter.detach().flatten() for parameter in ours.parameters()])
    assert torch.equal(optimizer.parameters, together)
    optimizer.parameters.add_(1.0)
    assert float(ours[0].bias[0] - before[0].bias[0]) == 1.0


def test_gradients_and_statistics_are_summed_in_one_buffer() -> None:
    def work(communicator: Communicator) -> tuple[Any, Any]:
        optimizer = flat(net())
        optimizer.zero_gradients()
        optimizer.gradients += communicator.rank + 1.0
        optimizer.statistics[2] = 10.0**communicator.rank
        optimizer.reduce(communicator)
        return optimizer.gradients.numpy(), optimizer.statistics.numpy()

    for gradients, statistics in run_threaded(3, work):
        assert (gradients == 6.0).all()
        assert statistics[2] == 111.0 and statistics.sum() == 111.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped(bad: float) -> None:
    ours = net()
    friend = nn.Linear(2, 1).double()
    groups = [
        ParameterGroup("ppo", list(ours.parameters()), None),
        ParameterGroup("friend", list(friend.parameters()), 1e-2),
    ]
    optimizer = FlatOptimizer(groups, epsilon=1e-5, max_grad_norm=0.5)
    before = optimizer.parameters.clone()
    for place in (0, -1):  # in PPO's and in the friend's part
        optimizer.zero_gradients()
        optimizer.gradients += 1.0
        optimizer.gradients[place] = bad
        assert not np.isfinite(optimizer.step(1e-3))
    assert torch.equal(optimizer.parameters, before) and not optimizer.state()
    optimizer.zero_gradients()
    optimizer.gradients += 1.0
    assert np.isfinite(optimizer.step(1e-3))
    assert not torch.equal(optimizer.parameters, before)


def test_groups_have_their_own_norm_and_rate() -> None:
    first, second = net(1), net(2)
    groups = [
        ParameterGroup("ppo", list(first.parameters()), None),
        ParameterGroup("empty", [], 1.0),
        ParameterGroup("friend", list(second.parameters()), 0.02),
    ]
    optimizer = FlatOptimizer(groups, epsilon=1e-5, max_grad_norm=0.5)
    old = [parameter.detach().clone() for parameter in (*first.parameters(), *second.parameters())]
    optimizer.zero_gradients()
    size = sum(parameter.numel() for parameter in first.parameters())
    optimizer.gradients[:size] = 0.01
    optimizer.gradients[size:] = 100.0
    assert optimizer.step(0.05) == pytest.approx(0.01 * np.sqrt(size))
    # Adam's first step is the rate times g / (|g| + epsilon), here of g = 0.01 and of 0.5 / sqrt(size).
    clipped = 0.5 / np.sqrt(size)
    moves = [-0.05 * 0.01 / (0.01 + 1e-5)] * 4 + [-0.02 * clipped / (clipped + 1e-5)] * 4
    new = (*first.parameters(), *second.parameters())
    for before, after, move in zip(old, new, moves, strict=True):
        torch.testing.assert_close(after.detach() - before, torch.full_like(before, move))
    assert {name.split(".")[0] for name in optimizer.state()} == {"ppo", "friend"}


def test_going_on_from_a_saved_state() -> None:
    ours = net()
    optimizer = flat(ours)
    for step in range(3):
        optimizer.zero_gradients()
        loss(ours, step).backward()
        optimizer.step(1e-2)
    saved = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    again = net()
    again.load_state_dict(copy.deepcopy(ours.state_dict()))
    resumed = flat(again)
    assert resumed.load(saved) == []
    for step in range(3, 6):
        for module, each in ((ours, optimizer), (again, resumed)):
            each.zero_gradients()
            loss(module, step).backward()
            each.step(1e-2)
    assert torch.equal(optimizer.parameters, resumed.parameters)
    assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in optimizer.state().items())


def test_a_state_of_another_size_starts_afresh() -> None:
    optimizer = flat(net())
    optimizer.zero_gradients()
    optimizer.step(1e-3)
    state = optimizer.state()
    other = flat(nn.Linear(3, 3).double())
    assert other.load(state) == ["ppo"] and not other.state()
    assert other.load({}) == ["ppo"]


def test_alone_nothing_is_summed() -> None:
    optimizer = flat(net())
    optimizer.gradients += 2.0
    optimizer.reduce(SoloCommunicator())
    assert (optimizer.gradients == 2.0).all()
