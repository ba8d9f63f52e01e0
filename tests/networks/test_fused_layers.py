"""Layers by oneDNN: the same numbers as PyTorch's own, and out of the way where they don't apply."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppo_and_friends.networks.kernels import fused_layers
from ppo_and_friends.networks.kernels.fused_layers import FusedLinear, FusedMLP, fuse_layers
from ppo_and_friends.networks.kernels.inference import flattened
from ppo_and_friends.networks.layers import ACTIVATIONS, NatureCNN, mlp
from ppo_and_friends.networks.row_counts import round_count

# By PyTorch's own word: an operation that is no longer what it was must fail here, not be skipped.
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def layers(inputs: int, widths: tuple[int, ...], activation: str) -> FusedMLP:
    return FusedMLP(*mlp(inputs, widths, activation, torch.Generator().manual_seed(3)))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plainly(network: nn.Sequential, inputs: Tensor) -> Tensor:
    for layer, activation in zip(network[::2], network[1::2], strict=True):
        inputs = activation(functional.linear(inputs, layer.weight, layer.bias))
    return inputs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "inputs"), [(1, 5), (64, 64), (130, 3), (2048, 5), (2043, 70)])
def test_values_and_gradients_are_those_of_the_plain_layers(activation: str, rows: int, inputs: int) -> None:
    network = layers(inputs, (96, 64, 8), activation)
    observations = draw(rows, inputs).requires_grad_()
    weights = draw(rows, 8, seed=1)
    leaves = [observations, *network.parameters()]
    expected, got = plainly(network, observations), network(observations)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-6)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for found, each in zip(torch.autograd.grad((got * weights).sum(), leaves), wanted, strict=True):
        # Sums over thousands of rows, in another order.
        torch.testing.assert_close(found, each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))
    with torch.inference_mode():
        torch.testing.assert_close(flattened(network)(observations.detach()), expected, rtol=1e-4, atol=2e-6)


def test_round_numbers_of_rows() -> None:
    found = [round_count(rows) for rows in range(4097)]
    assert all(rows <= each <= max(rows, rows * 9 / 8) for rows, each in enumerate(found))
    assert [round_count(each) for each in found] == found
    assert [rows for rows in range(1024, 2048) if found[rows] == rows] == list(range(1024, 2048, 128))


@needs_onednn
@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_onednn_sees_few_shapes(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps code for each, and how many rows a minibatch has depends on how many were experience."""
    shapes, product = set(), fused_layers._onednn_linear

    def recorded(inputs: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        shapes.add((inputs.shape, weight.shape))
        return product(inputs, weight, *rest)

    monkeypatch.setattr(fused_layers, "_onednn_linear", recorded)
    network = layers(70, (96, 64), activation)
    for rows in range(1950, 2049):
        network(draw(rows, 70)).sum().backward()
        with torch.no_grad():
            network(draw(rows, 70))
    # 2,048 rows alone: two layers forward, both weights' gradients, the second layer's inputs' gradient.
    assert len(shapes) == 5


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 130])
def test_written_out_gradients_in_double_precision(
    activation: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN has single precision alone, so its products are PyTorch's here; the rest is what runs."""

    def names(inputs: Tensor, layers: Any) -> tuple[str, ...] | None:
        known = [fused_layers.ACTIVATION_NAMES.get(type(one)) for _, _, one in layers]
        return None if None in known else tuple(known)  # type: ignore[arg-type]

    monkeypatch.setattr(fused_layers, "_fusible", names)
    monkeypatch.setattr(fused_layers, "_onednn_linear", functional.linear)
    for everything in (True, False):
        monkeypatch.setattr(fused_layers, "_by_onednn", lambda *_, by=everything: by)
        network = layers(5, (9, 40, 33, 3), activation).double()
        inputs = draw(rows, 5).double().requires_grad_()
        leaves = [inputs, *network.parameters()]
        expected, found = plainly(network, inputs), network(inputs)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        fused = activation in ("tanh", "relu", "elu")
        assert (type(found.grad_fn).__name__ == "_FusedLayersBackward") == fused
        wanted = torch.autograd.grad(expected.square().sum(), leaves)
        for one, other in zip(torch.autograd.grad(found.square().sum(), leaves), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


@needs_onednn
@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
def test_large_products_go_by_onednn(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fused_layers.available()
    calls: list[str] = []
    product = fused_layers._onednn_linear
    monkeypatch.setattr(
        fused_layers, "_onednn_linear", lambda *arguments: calls.append(activation) or product(*arguments)
    )
    network = layers(64, (64,), activation)
    network(draw(2048, 64)).sum().backward()
    assert len(calls) == 2  # forward, and the weights' gradient; the inputs have none
    network(draw(8, 64)).sum().backward()
    network.double()(draw(2048, 64).double()).sum().backward()
    assert len(calls) == 2


def test_without_onednn_the_plain_layers_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = layers(64, (64,), "elu")
    observations = draw(2048, 64)
    expected = network(observations)
    monkeypatch.setattr(fused_layers, "available", lambda: False)
    torch.testing.assert_close(network(observations), expected, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(network(observations), plainly(network, observations), rtol=0, atol=0)


@pytest.mark.parametrize("frozen", [(0,), (0, 2), (2,), (0, 2, 4)])
@pytest.mark.parametrize("wanted", [False, True])
def test_frozen_layers_get_no_gradient(frozen: tuple[int, ...], wanted: bool) -> None:
    network, inputs = layers(64, (64, 64, 8), "tanh"), draw(512, 64).requires_grad_(wanted)
    for index in frozen:
        network[index].requires_grad_(False)
    leaves = [one for one in (inputs, *network.parameters()) if one.requires_grad]
    if not leaves:
        assert not network(inputs).requires_grad
        return
    expected = torch.autograd.grad(plainly(network, inputs).square().sum(), leaves)
    for found, each in zip(
        torch.autograd.grad(network(inputs).square().sum(), leaves), expected, strict=True
    ):
        torch.testing.assert_close(found, each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))


def test_autocast_takes_the_plain_layers() -> None:
    network, inputs = layers(4, (8, 512, 512), "elu"), draw(1024, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(inputs).dtype == plainly(network, inputs).dtype
        network(inputs).float().sum().backward()


def test_a_hook_sees_every_layer() -> None:
    network = layers(64, (64, 64), "tanh")
    seen: list[torch.Size] = []
    for child in network:
        child.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.shape))
    network(draw(2048, 64))
    flattened(network)(draw(2048, 64))
    assert seen == [torch.Size((2048, 64))] * 8
    gradients: list[int] = []
    network[0].register_full_backward_hook(lambda module, inputs, outputs: gradients.append(1))
    network(draw(2048, 64).requires_grad_()).sum().backward()
    assert gradients == [1]


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
def test_what_is_not_a_number_stays_so(activation: str) -> None:
    network, observations = layers(64, (64,), activation), draw(2048, 64)
    observations[5] = math.nan
    seen = network(observations)
    assert seen[5].isnan().all() and not seen[:5].isnan().any() and not seen[6:].isnan().any()


def halved() -> FusedMLP:
    network = layers(64, (64, 64), "elu")
    network[1] = nn.ELU(alpha=0.5)
    return network


def without_bias() -> FusedMLP:
    network = layers(64, (64, 64), "tanh")
    network[2] = nn.Linear(64, 64, bias=False)
    return network


def longer() -> FusedMLP:
    return layers(64, (64, 64), "tanh").append(nn.LayerNorm(64))


@pytest.mark.parametrize("make", [halved, without_bias, longer])
def test_layers_that_somebody_changed_are_called_as_they_are(make: Callable[[], FusedMLP]) -> None:
    network, observations = make(), draw(2048, 64)
    expected = observations
    for child in network:
        expected = child(expected)
    torch.testing.assert_close(network(observations), expected, rtol=0, atol=0)
    torch.testing.assert_close(flattened(network)(observations), expected, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [2, 512])
def test_a_layer_without_activation(rows: int) -> None:
    layer, inputs = FusedLinear(nn.Linear(300, 40)), draw(rows, 300).requires_grad_()
    plain = functional.linear(inputs, layer.weight, layer.bias)
    torch.testing.assert_close(layer(inputs), plain, rtol=1e-4, atol=2e-6)
    leaves = [inputs, *layer.parameters()]
    wanted = torch.autograd.grad(plain.square().sum(), leaves)
    for found, each in zip(torch.autograd.grad(layer(inputs).square().sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))


def test_a_network_keeps_its_parameters_and_their_names() -> None:
    image = NatureCNN((1, 36, 36), from_bytes=False, generator=torch.Generator().manual_seed(0))
    head = nn.Sequential(nn.Linear(512, 4), nn.Tanh())
    watched = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    watched.register_forward_hook(lambda module, inputs, outputs: None)
    network = nn.ModuleDict({"image": image, "head": head, "same": head, "watched": watched})
    before = dict(network.state_dict(keep_vars=True))
    fuse_layers(network)
    assert isinstance(image.dense, FusedLinear) and isinstance(network["head"], FusedMLP)
    assert network["same"] is network["head"] and network["watched"] is watched
    assert type(image.convolutions) is nn.Sequential
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_what_is_not_layers_with_activations_is_not_fused() -> None:
    network = nn.ModuleList([longer(), nn.Sequential(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))])
    network[0] = nn.Sequential(*network[0])
    kinds = [type(each) for each in network]
    fuse_layers(network)
    assert [type(each) for each in network] == kinds == [nn.Sequential] * 3
