"""Memory: a pass over chunks is stepping, its gradients are the unrolled ones, and episodes keep theirs."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.networks import memory as memories
from ppo_and_friends.networks.build import make_network
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.networks.kernels.fused_memory import FusedGRU, fuse_memory
from ppo_and_friends.networks.memory import Memory
from ppo_and_friends.networks.model import Model, begun
from ppo_and_friends.settings.experiment import NetworkSettings

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
L, N = 7, 4
STARTS = torch.tensor(  # [L, N]: never, at first, inside, and several times
    [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
).bool()

kinds = pytest.mark.parametrize("kind", ["lstm", "gru"])


def network(space: spaces.Box = VECTOR, **settings: Any) -> Model:
    chosen = NetworkSettings(**{"memory_width": 5, "actor_hidden": (6,), "critic_hidden": (8,)} | settings)
    return make_network(
        space, Gaussian(2), chosen, ("extrinsic", "novelty"), torch.Generator().manual_seed(1)
    ).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def stepped(net: Model, seen: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Policy parameters of every step, one by one, and the last state."""
    found = []
    for observations, begins in zip(seen, starts, strict=True):
        parameters, state = net.step({"policy": observations}, begun(state, begins))
        found.append(parameters)
    return torch.stack(found), state


OPTIONS = [
    {"memory": memory, "memory_layers": layers, "memory_place": place, "memory_shared": shared}
    for memory, layers, place, shared in itertools.product(
        ("lstm", "gru"), (1, 2), ("before", "after"), (False, True)
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_pass_over_a_sequence_is_stepping(options: dict[str, Any]) -> None:
    net = network(**options)
    seen, state = draw(L, N, 3), draw(N, net.state_size)
    parameters, values = net.sequence({"policy": seen}, state, STARTS)
    assert parameters.shape == (L, N, 4) and values.shape == (L, N, 2)
    expected, last = stepped(net, seen, state, STARTS)
    torch.testing.assert_close(parameters, expected)
    # The critic's part of the state goes on while acting: two halves are the whole, values included.
    _, middle = stepped(net, seen[:3], state, STARTS[:3])
    halves = [
        net.sequence({"policy": seen[:3]}, state, STARTS[:3])[1],
        net.sequence({"policy": seen[3:]}, middle, STARTS[3:])[1],
    ]
    torch.testing.assert_close(torch.cat(halves), values)
    assert not torch.allclose(last, state)
    # The policy's part alone suffices to act.
    own = state[:, : net.policy_state_size]
    torch.testing.assert_close(stepped(net, seen, own, STARTS)[0], expected)
    assert net.state_size == (1 if options["memory_shared"] else 2) * net.policy_state_size


@pytest.mark.parametrize("shared", [True, False])
def test_images(shared: bool) -> None:
    net = network(IMAGE, memory="lstm", shared=shared)
    seen = torch.randint(0, 256, (L, N, 2, 36, 36), dtype=torch.uint8)
    state = draw(N, net.state_size)
    torch.testing.assert_close(
        net.sequence({"policy": seen}, state, STARTS)[0], stepped(net, seen, state, STARTS)[0]
    )


def by_hand(memory: Memory, inputs: Tensor, state: Tensor, starts: Tensor) -> Tensor:
    """One layer, as in the papers (and with PyTorch's order of the gates), step by step and row by row."""
    weights = dict(memory.cells.named_parameters())
    w_ih, w_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b_ih, b_hh = weights["bias_ih_l0"], weights["bias_hh_l0"]
    rows = []
    for row in range(inputs.shape[1]):
        if memory.is_lstm:
            h, c = state[row].chunk(2)
        else:
            h, c = state[row], state[row]
        outputs = []
        for x, start in zip(inputs[:, row], starts[:, row], strict=True):
            if start:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            if memory.is_lstm:
                i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                (r_x, z_x, n_x), (r_h, z_h, n_h) = (w_ih @ x + b_ih).chunk(3), (w_hh @ h + b_hh).chunk(3)
                r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
                h = (1.0 - z) * (n_x + r * n_h).tanh() + z * h
            outputs.append(h)
        rows.append(torch.stack(outputs))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("most_padding", [0.0, 9.0], ids=["stretches", "padded"])
@pytest.mark.parametrize("kind", ["lstm", "gru", "fused"])
def test_gradients_are_those_of_the_loop_written_out(
    kind: Any, most_padding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "MOST_PADDING", most_padding)
    usual: Any = "gru" if kind == "fused" else kind
    memory = Memory(usual, 3, 5, 1, 8, torch.Generator().manual_seed(1)).double()
    memory = FusedGRU(memory) if kind == "fused" else memory
    inputs, state = draw(L, N, 3).requires_grad_(), draw(N, memory.state_size).requires_grad_()
    leaves = [inputs, state, *memory.parameters()]
    weights = draw(L, N, 5)
    found = memory.sequence(inputs, state, STARTS)
    expected = by_hand(memory, inputs, state, STARTS)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((each.sin() * weights).sum(), leaves) for each in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_fused_gru_is_the_plain_one() -> None:
    """Two layers with a critic's own, in single precision and large enough for oneDNN; frozen inputs, too."""
    options = {"memory": "gru", "memory_layers": 2, "memory_width": 64, "memory_place": "after"}
    plain = network(**options).float()
    fused = copy.deepcopy(plain)
    fuse_memory(fused)
    assert type(fused.memory) is type(fused.critic_memory) is FusedGRU  # type: ignore[attr-defined]
    assert fused.state_dict().keys() == plain.state_dict().keys()
    seen, state = draw(L, 300, 3).float(), draw(300, plain.state_size).float()
    starts = torch.rand((L, 300), generator=torch.Generator().manual_seed(5)) < 0.1
    found = []
    for net in (plain, fused):
        outputs = net.sequence({"policy": seen}, state, starts)
        sum(each.sin().sum() for each in outputs).backward()  # type: ignore[union-attr]
        found.append([*outputs, *(parameter.grad for parameter in net.parameters())])
        with torch.no_grad():
            torch.testing.assert_close(net.sequence({"policy": seen}, state, starts)[0], outputs[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)


@kinds
def test_nothing_passes_the_end_of_an_episode(kind: Any) -> None:
    """Row 2 begins at step 3, row 3 at steps 1, 3 and 6, row 1 at step 0."""
    net = network(memory=kind)
    seen, state = draw(L, N, 3).requires_grad_(), draw(N, net.state_size).requires_grad_()
    parameters, values = net.sequence({"policy": seen}, state, STARTS)
    for row, first, last in ((2, 3, 7), (3, 1, 3), (3, 3, 6), (3, 6, 7), (1, 0, 7)):
        total = parameters[first:last, row].sum() + values[first:last, row].sum()
        before, carried = torch.autograd.grad(total, (seen, state), retain_graph=True)
        assert before[first:last, row].abs().min() > 0.0
        before[first:last, row] = 0.0
        assert before.abs().max() == 0.0 and carried.abs().max() == 0.0
        other = seen.detach().clone()
        other[:first] += 1e3
        changed = net.sequence({"policy": other}, state + 1e3, STARTS)
        assert torch.equal(changed[0][first:last, row], parameters[first:last, row])


def test_units_begin_by_keeping_1_to_so_many_steps_and_weights_are_orthogonal() -> None:
    for kind, gates in (("lstm", 4), ("gru", 3)):
        memory = Memory(kind, 4, 4, 2, 10, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
        parameters = dict(memory.cells.named_parameters())
        for layer in (0, 1):
            biases = parameters[f"bias_ih_l{layer}"].detach().view(gates, 4)
            # A gate at k / (k + 1) halves nothing before about k steps: log k is its bias. k: 1, 4, 7, 10.
            torch.testing.assert_close(biases[1].sigmoid(), torch.tensor([1 / 2, 4 / 5, 7 / 8, 10 / 11]))
            torch.testing.assert_close(biases[0], -biases[1] if kind == "lstm" else torch.zeros(4))
            assert not biases[2:].any() and not parameters[f"bias_hh_l{layer}"].any()
        weight = parameters["weight_hh_l0"].detach()
        torch.testing.assert_close(weight.T @ weight, torch.eye(4), atol=1e-5, rtol=0.0)


def test_without_memory_nothing_is_carried() -> None:
    net = network()
    assert net.state_size == net.policy_state_size == 0
    assert begun(torch.zeros(N, 0), STARTS[0]).shape == (N, 0)
