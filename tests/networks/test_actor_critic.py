"""Networks: shapes, initialisation, sharing, and honest refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional

from ppo_and_friends.common.images import is_image
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian
from ppo_and_friends.networks.layers import ACTIVATIONS
from ppo_and_friends.settings.experiment import NetworkSettings

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)
RAM = spaces.Box(0, 255, (128,), np.uint8)
IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
TALL = spaces.Box(0, 255, (96, 80, 3), np.uint8)


def network(
    space: spaces.Box, distribution: Distribution | None = None, seed: int = 0, **settings: Any
) -> ActorCritic:
    return ActorCritic(
        space,
        distribution or Categorical((3,)),
        NetworkSettings(**settings),
        ["extrinsic", "novelty"],
        torch.Generator().manual_seed(seed),
    )


def batch(space: spaces.Box, rows: int = 6) -> torch.Tensor:
    space.seed(1)
    return torch.from_numpy(np.stack([space.sample() for _ in range(rows)]))


@pytest.mark.parametrize("space", [VECTOR, RAM, IMAGE, TALL], ids=str)
@pytest.mark.parametrize("distribution", [Categorical((3, 2)), Gaussian(2)], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_consistency(space: spaces.Box, distribution: Distribution, dtype: torch.dtype) -> None:
    net = network(space, distribution).to(dtype)
    rows = batch(space)
    rows = rows.to(dtype) if rows.is_floating_point() else rows
    parameters, values = net(rows)
    assert parameters.shape == (6, distribution.parameter_size) and values.shape == (6, 2)
    assert parameters.dtype is dtype and values.dtype is dtype
    torch.testing.assert_close(net.policy(rows), parameters)
    torch.testing.assert_close(net.values(rows), values)
    acted, state = net.step({"policy": rows}, torch.empty(6, 0))
    torch.testing.assert_close(acted, parameters)
    assert state.shape == (6, 0)
    in_sequence = {"policy": rows.unflatten(0, (2, 3))}
    both = net.sequence(in_sequence, torch.empty(3, 0), torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(both[0], parameters.unflatten(0, (2, 3)))
    torch.testing.assert_close(both[1], values.unflatten(0, (2, 3)))


def test_a_plain_network_as_written_out() -> None:
    net = network(VECTOR, actor_hidden=(7,), critic_hidden=(8, 9), activation="tanh")
    rows = batch(VECTOR).numpy()
    weights = {name: tensor.detach().numpy() for name, tensor in net.named_parameters()}

    def layer(inputs: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
        result: np.ndarray[Any, Any] = inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    policy = layer(np.tanh(layer(rows, "actor.0")), "policy_head.outputs")
    values = layer(np.tanh(layer(np.tanh(layer(rows, "critic.0")), "critic.2")), "value_head")
    got = net(torch.from_numpy(rows))
    np.testing.assert_allclose(got[0].detach(), policy, atol=1e-5)
    np.testing.assert_allclose(got[1].detach(), values, atol=1e-5)


def test_initialisation_is_orthogonal_with_the_usual_gains() -> None:
    net = network(IMAGE, Gaussian(2), actor_output_gain=0.01, log_std_init=-0.5)
    net_mlp = network(
        VECTOR, Gaussian(2), actor_hidden=(64, 64), critic_hidden=(64, 64), actor_output_gain=0.3
    )
    gains = {"policy_head.outputs": 0.01, "value_head": 1.0}
    for each, own in ((net, gains), (net_mlp, {"policy_head.outputs": 0.3, "value_head": 1.0})):
        for name, module in each.named_modules():
            if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                continue
            matrix = module.weight.detach().flatten(1).double()
            if matrix.shape[0] > matrix.shape[1]:
                matrix = matrix.T
            gain = own.get(name, math.sqrt(2.0))
            identity = torch.eye(len(matrix), dtype=torch.float64)
            torch.testing.assert_close(matrix @ matrix.T, gain**2 * identity, atol=1e-5, rtol=0, msg=name)
            assert module.bias is not None and not module.bias.any()
    assert net.policy_head.log_std is not None
    assert net.policy_head.log_std.tolist() == [-0.5, -0.5]


def test_equal_seeds_give_equal_networks() -> None:
    first, again, other = (network(VECTOR, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_sharing() -> None:

    image, apart = network(IMAGE), network(IMAGE, shared=False)
    assert image.actor_encoder is image.critic_encoder
    assert apart.actor_encoder is not apart.critic_encoder
    count = [sum(p.numel() for p in net.parameters()) for net in (image, apart)]
    encoder = sum(p.numel() for p in image.actor_encoder.parameters())
    assert count[1] - count[0] == encoder
    assert not network(VECTOR).shared
    # An actor of its own learns nothing from the critic's loss.
    net = network(VECTOR)
    net.values(batch(VECTOR)).sum().backward()
    assert all(p.grad is None for p in (*net.actor.parameters(), *net.policy_head.parameters()))


def test_bytes_are_scaled_to_one() -> None:
    net = network(RAM)
    rows = torch.full((1, 128), 255, dtype=torch.uint8)
    torch.testing.assert_close(net.actor_encoder(rows), torch.ones(1, 128))
    encoder = network(IMAGE).actor_encoder
    images = batch(IMAGE)
    # The weights are divided, not the image; either way it is the convolution of image / 255.
    first = encoder.convolutions[0]
    by_hand = functional.conv2d(images / 255.0, first.weight, first.bias, first.stride).relu()
    expected = encoder.dense(encoder.convolutions[2:](by_hand).flatten(1)).relu()
    torch.testing.assert_close(encoder(images), expected)


def test_half_precision_is_near_and_its_gradients_are_whole() -> None:
    images = batch(IMAGE)
    whole, half = network(IMAGE), network(IMAGE, half_precision=True)
    features = [net.actor_encoder(images) for net in (whole, half)]
    assert features[1].dtype == torch.float32
    torch.testing.assert_close(features[1], features[0], rtol=0.05, atol=0.01)
    for net, seen in zip((whole, half), features, strict=True):
        seen.square().sum().backward()
        assert {p.grad.dtype for p in net.actor_encoder.parameters()} == {torch.float32}
    pairs = zip(whole.actor_encoder.parameters(), half.actor_encoder.parameters(), strict=True)
    for expected, found in pairs:
        cosine = functional.cosine_similarity(expected.grad.flatten(), found.grad.flatten(), dim=0)
        assert cosine > 0.99


def test_channels_last_is_the_same_image() -> None:
    first = spaces.Box(0, 255, (3, 84, 84), np.uint8)
    last = spaces.Box(0, 255, (84, 84, 3), np.uint8)
    rows = batch(first)
    torch.testing.assert_close(network(first)(rows)[1], network(last)(rows.movedim(1, -1))[1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    net = network(VECTOR, activation=activation)
    assert isinstance(net.actor[1], ACTIVATIONS[activation])


def test_without_hidden_layers_it_is_linear() -> None:
    net = network(VECTOR, actor_hidden=(), critic_hidden=())
    rows = batch(VECTOR)
    torch.testing.assert_close(net.values(2 * rows), 2 * net.values(rows))


def test_an_image_can_be_flattened() -> None:
    net = network(IMAGE, encoder="mlp")
    assert not net.convolutional and not net.shared
    assert net(batch(IMAGE))[0].shape == (6, 3)


def test_what_does_not_fit_is_refused() -> None:
    small = spaces.Box(0, 255, (3, 20, 30), np.uint8)
    with pytest.raises(UsageError, match=r"20 x 30.*36 x 36.*encoder=mlp"):
        network(small, encoder="nature_cnn")
    assert not network(small).convolutional


@pytest.mark.parametrize("space", [VECTOR, RAM, spaces.Box(0, 1, (3, 3))], ids=str)
def test_the_convolutions_need_an_image(space: spaces.Box) -> None:
    with pytest.raises(UsageError, match="encoder=mlp"):
        network(space, encoder="nature_cnn")


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((4, 84, 84), True),
        ((84, 84, 3), True),
        ((3, 36, 40), True),
        ((3, 35, 40), False),  # no output of the third convolution
        ((40, 35, 3), False),
        ((3, 3, 3), False),
        ((84, 84), False),
        ((5,), False),
    ],
)
def test_is_image(shape: tuple[int, ...], image: bool) -> None:
    assert is_image(spaces.Box(0, 1, shape)) is image
