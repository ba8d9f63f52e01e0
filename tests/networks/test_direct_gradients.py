"""Gradients without autograd are those of the plain loss by autograd; what isn't known is left to it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.networks.actor_critic import ActorCritic, PolicyHead
from ppo_and_friends.networks.distributions import Bernoulli, Categorical, Distribution, Gaussian
from ppo_and_friends.networks.kernels import array_layers
from ppo_and_friends.networks.kernels.array_distributions import policy_terms
from ppo_and_friends.networks.kernels.array_loss import surrogate_and_gradient, value_loss_and_gradient
from ppo_and_friends.networks.kernels.direct_gradients import direct_gradients
from ppo_and_friends.networks.kernels.distribution_gradients import distribution_gradients
from ppo_and_friends.networks.kernels.fused_layers import fuse_layers
from ppo_and_friends.networks.kernels.fused_loss import surrogate_and_gradient as torch_surrogate
from ppo_and_friends.networks.kernels.fused_loss import value_loss_and_gradient as torch_value_loss
from ppo_and_friends.ppo.losses import ppo_loss
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.settings.experiment import NetworkSettings
from tests.minibatches import kind, minibatch_of

STREAMS = ["extrinsic", "own"]
WRITTEN = (Categorical((3,)), Categorical((2, 2, 2)), Gaussian(2))
EXACT = {"rtol": 1e-9, "atol": 1e-12}
"""For double precision."""


def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def space(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def network(
    distribution: Distribution,
    *,
    hidden: tuple[int, ...] = (9, 7),
    activation: str = "tanh",
    critic_inputs: int | None = None,
    dtype: torch.dtype = torch.float64,
    **settings: Any,
) -> ActorCritic:
    """Fused, with gradients that nobody has computed yet, as the optimizer leaves them."""
    chosen = NetworkSettings(actor_hidden=hidden, critic_hidden=hidden[:1], activation=activation, **settings)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(4)
    critic_space = None if critic_inputs is None else space(critic_inputs)
    made = ActorCritic(space(5), distribution, chosen, ["extrinsic", "own"], generator, critic_space).to(
        dtype
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(
                dtype
            )
            parameter.grad = torch.full_like(parameter, math.nan)
    fuse_layers(made)
    return made


def minibatch_for(model: ActorCritic, rows: int = 200, critic_inputs: int | None = None) -> Minibatch:
    generator = torch.Generator().manual_seed(5)
    dtype = next(model.parameters()).dtype
    seen = {"policy": draw((rows, 5), generator).to(dtype)}
    if critic_inputs is not None:
        seen["critic"] = draw((rows, critic_inputs), generator).to(dtype)
    return replace(minibatch_of(model.distribution, rows=rows, dtype=dtype), observations=seen)


def coefficients(value_clip_range: float | None = 0.3, entropy_coefficient: float = 0.02) -> dict[str, Any]:
    return {
        "clip_range": 0.2,
        "entropy_coefficient": entropy_coefficient,
        "value_coefficient": 0.7,
        "value_clip_range": value_clip_range,
    }


def by_autograd(model: ActorCritic, minibatch: Minibatch, **settings: Any) -> tuple[Tensor, list[Tensor]]:
    minibatch.evaluate(model)
    total, statistics = ppo_loss(model.distribution, minibatch, **settings)
    return statistics, list(torch.autograd.grad(total, list(model.parameters())))


def compare(model: ActorCritic, minibatch: Minibatch, **settings: Any) -> None:
    statistics, wanted = by_autograd(model, minibatch, **settings)
    direct = direct_gradients(model)
    assert direct is not None
    torch.testing.assert_close(direct(minibatch, **settings), statistics, **EXACT)
    for parameter, each in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, each, **EXACT)


@pytest.mark.parametrize("distribution", WRITTEN, ids=kind)
@pytest.mark.parametrize("value_clip_range", [None, 0.3])
@pytest.mark.parametrize("entropy_coefficient", [0.0, 0.02])
def test_every_loss(
    distribution: Distribution, value_clip_range: float | None, entropy_coefficient: float
) -> None:
    model = network(distribution)
    compare(model, minibatch_for(model), **coefficients(value_clip_range, entropy_coefficient))


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
@pytest.mark.parametrize("hidden", [(9, 7, 4), (3,), ()])
@pytest.mark.parametrize("rows", [1, 64, 131])
@pytest.mark.parametrize("largest", [0, array_layers.MAX_MULTIPLICATIONS])
def test_every_network(
    activation: str, hidden: tuple[int, ...], rows: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By PyTorch, and by NumPy."""
    monkeypatch.setattr(array_layers, "MAX_MULTIPLICATIONS", largest)
    model = network(Gaussian(2), hidden=hidden, activation=activation)
    compare(model, minibatch_for(model, rows), **coefficients())


def test_a_shared_encoder_and_a_critic_that_sees_something_else() -> None:
    model = network(Gaussian(2), shared=True)
    compare(model, minibatch_for(model), **coefficients())
    model = network(Gaussian(2), critic_inputs=3)
    compare(model, minibatch_for(model, critic_inputs=3), **coefficients())


@pytest.mark.parametrize("rows", [8, 64, 2043])
def test_single_precision(rows: int) -> None:
    """By NumPy, by PyTorch, and by oneDNN."""
    model = network(Gaussian(2), hidden=(96, 64), dtype=torch.float32)
    minibatch = minibatch_for(model, rows)
    statistics, wanted = by_autograd(model, minibatch, **coefficients())
    direct = direct_gradients(model)
    assert direct is not None
    torch.testing.assert_close(direct(minibatch, **coefficients()), statistics, rtol=1e-4, atol=1e-5)
    for parameter, each in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        torch.testing.assert_close(parameter.grad, each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))


@pytest.mark.parametrize("distribution", WRITTEN, ids=kind)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_ratio", [100.0, 1e4, math.inf, -100.0, -1e4, -math.inf])
def test_extreme_rows(distribution: Distribution, dtype: torch.dtype, log_ratio: float) -> None:
    """Of a clipped row and of an excluded one nothing is left, whatever their ratios; without a warning."""
    model = network(distribution, dtype=dtype)
    minibatch = minibatch_for(model, rows=5)
    with torch.no_grad():
        minibatch.evaluate(model)
        log_probs = distribution.log_prob(minibatch.policy_parameters, minibatch.actions)
    minibatch.old_log_probs = log_probs.clone()
    minibatch.active = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0], dtype=dtype)
    minibatch.advantages[1] = math.copysign(1.0, log_ratio)
    direct = direct_gradients(model)
    assert direct is not None
    gradients = []
    for apart in (math.copysign(1.0, log_ratio), log_ratio):
        minibatch.old_log_probs[1] = log_probs[1] - apart
        minibatch.old_log_probs[3] = log_probs[3] - (0.0 if abs(apart) == 1.0 else log_ratio)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            direct(minibatch, **coefficients(entropy_coefficient=0.0))
        gradients.append([copy.deepcopy(each.grad) for each in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None and other is not None and one.isfinite().all() and torch.equal(one, other)


@pytest.mark.parametrize("distribution", WRITTEN, ids=kind)
def test_terms_of_distributions(distribution: Distribution) -> None:
    minibatch = minibatch_of(distribution)
    parameters, old = minibatch.policy_parameters.detach(), minibatch.old_policy_parameters
    expected = distribution_gradients(distribution, parameters, minibatch.actions)
    terms = policy_terms(distribution)
    assert terms is not None
    found = terms(parameters.numpy(), minibatch.actions.numpy(), old.numpy())
    for name in ("log_prob", "entropy", "log_prob_gradient", "entropy_gradient"):
        torch.testing.assert_close(torch.from_numpy(getattr(found, name)), getattr(expected, name), **EXACT)
    torch.testing.assert_close(torch.from_numpy(found.kl), distribution.kl(old, parameters), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_surrogate_of_extreme_ratios(advantage: float, dtype: torch.dtype) -> None:
    ratio = torch.tensor([0.0, 0.1, 0.9, 1.0, 1.1, 100.0, math.inf, math.nan], dtype=dtype)
    advantages = torch.full_like(ratio, advantage)
    expected = torch_surrogate(ratio, advantages, 0.2)
    for found, each in zip(
        surrogate_and_gradient(ratio.numpy(), advantages.numpy(), 0.2), expected, strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(found), each, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss(clip: float | None) -> None:
    generator = torch.Generator().manual_seed(3)
    arrays = torch.randn(3, 500, 2, dtype=torch.float64, generator=generator)
    expected = torch_value_loss(*arrays, clip)
    for found, each in zip(value_loss_and_gradient(*arrays.numpy(), clip), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), each, rtol=0, atol=0)


class LouderHead(PolicyHead):
    """Somebody's own."""

    def forward(self, features: Tensor) -> Tensor:
        return 2.0 * super().forward(features)


def louder(model: ActorCritic) -> None:
    model.policy_head.__class__ = LouderHead


def frozen(model: ActorCritic) -> None:
    model.value_head.weight.requires_grad_(False)


def replaced_head(model: ActorCritic) -> None:
    model.value_head = nn.Sequential(model.value_head)  # type: ignore[assignment]


def replaced_encoder(model: ActorCritic) -> None:
    model.actor_encoder = nn.Identity()  # type: ignore[assignment]


def another_layer(model: ActorCritic) -> None:
    model.actor[1] = nn.SiLU()


def normalised(model: ActorCritic) -> None:
    model.critic.append(nn.LayerNorm(9))


def watched_head(model: ActorCritic) -> None:
    model.policy_head.outputs.register_forward_hook(lambda module, inputs, outputs: None)


def watched_parameter(model: ActorCritic) -> None:
    model.value_head.weight.register_hook(lambda gradient: 2.0 * gradient)


def watched_layers(model: ActorCritic) -> None:
    model.actor.register_forward_hook(lambda module, inputs, outputs: None)


def watched_nothing(model: ActorCritic) -> None:
    model.actor = nn.Sequential()
    model.actor.register_forward_hook(lambda module, inputs, outputs: None)


def own_forward(model: ActorCritic) -> None:
    model.actor.forward = lambda inputs: torch.zeros(len(inputs), 7)  # type: ignore[method-assign]


def shared_layers(model: ActorCritic) -> None:
    model.critic = model.actor
    model.value_head = nn.Linear(7, 2, dtype=torch.float64)
    for parameter in model.value_head.parameters():
        parameter.grad = torch.zeros_like(parameter)


def shared_weight(model: ActorCritic) -> None:
    model.critic = copy.deepcopy(model.critic)
    for parameter in model.critic.parameters():
        parameter.grad = torch.zeros_like(parameter)
    first = next(model.actor.modules())
    own, critics = dict(first.named_parameters()), dict(model.critic.named_parameters())
    name = next(name for name, each in critics.items() if each.shape == own[name].shape)
    place, _, last = name.rpartition(".")
    setattr(model.critic.get_submodule(place), last, own[name])


def without_bias(model: ActorCritic) -> None:
    model.value_head = nn.Linear(9, 2, bias=False, dtype=torch.float64)
    model.value_head.weight.grad = torch.zeros_like(model.value_head.weight)


def transposed(model: ActorCritic) -> None:
    model.value_head.weight = nn.Parameter(torch.zeros(9, 2, dtype=torch.float64).t())
    model.value_head.weight.grad = torch.zeros_like(model.value_head.weight)


@pytest.mark.parametrize(
    "change",
    [
        louder,
        watched_parameter,
        watched_nothing,
        own_forward,
        shared_layers,
        shared_weight,
        without_bias,
        transposed,
        frozen,
        replaced_head,
        replaced_encoder,
        another_layer,
        normalised,
        watched_head,
        watched_layers,
    ],
)
def test_what_is_not_known_is_left_to_autograd(change: Callable[[ActorCritic], None]) -> None:
    model = network(Gaussian(2))
    assert direct_gradients(model) is not None
    change(model)
    assert direct_gradients(model) is None


def test_other_distributions_and_networks_are_left_to_autograd() -> None:
    assert direct_gradients(network(Bernoulli(2))) is None
    assert direct_gradients(network(Categorical((2, 4)))) is None
    assert direct_gradients(network(Gaussian(2), activation="silu")) is None
