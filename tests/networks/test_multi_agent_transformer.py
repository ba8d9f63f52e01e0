"""The Multi-Agent Transformer: one pass is deciding in turn, by naive arithmetic, and nobody sees ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.build import make_network
from ppo_and_friends.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    SquashedGaussian,
)
from ppo_and_friends.networks.joint import Joint
from ppo_and_friends.networks.model import ACTIONS, PRESENT, Model, Tensors, chosen
from ppo_and_friends.settings.experiment import NetworkSettings

NAME = "MultiAgentTransformer"
G, AGENTS, SIZE = 6, 4, 3
N = G * AGENTS
DISTRIBUTIONS = {
    "choice": Categorical((4,)),
    "choices": Categorical((3, 2)),
    "yes or no": Bernoulli(2),
    "numbers": Gaussian(2),
    "squashed": SquashedGaussian(2),
    "nested": Joint([Categorical((3,)), Gaussian(1)]),
}
SHAPES = [{}, {"attention_layers": 2, "attention_heads": 2}]
BOX = spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)

every_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


def network(
    distribution: Distribution, space: spaces.Box = BOX, agents: int = AGENTS, **settings: Any
) -> Any:
    """With large weights, so that agents depend on each other, and in double precision."""
    chosen_settings = NetworkSettings(
        model=NAME, **{"attention_width": 8, "actor_output_gain": 1.0} | settings
    )
    generator = torch.Generator().manual_seed(1)
    made = make_network(
        space, distribution, chosen_settings, ("extrinsic", "novelty"), generator, agents=agents
    ).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).double(), alpha=0.3)
    return made


def seen_by(distribution: Distribution, length: int = 1, *, masks: bool = False) -> dict[str, Tensor]:
    """Observations [L, N, ...] of agents of whom every third is gone."""
    generator = torch.Generator().manual_seed(2)
    there = (torch.arange(length * N) % 3 != 1).view(length, N, 1)
    seen = {"policy": torch.randn(length, N, SIZE, generator=generator).double(), PRESENT: there}
    if masks:
        legal = torch.rand(length, N, distribution.mask_size, generator=generator) < 0.5
        legal[..., ::2] = True  # so that something is legal in each choice
        seen["action_mask"] = legal
    return seen


def first(named: Tensors) -> dict[str, Tensor]:
    return {name: tensor[0] for name, tensor in named.items()}


def noise_of(distribution: Distribution) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn if distribution.noise_kind == "normal" else torch.rand
    return draw(N, distribution.noise_size, generator=generator).double()


def passed(net: Model, seen: Tensors) -> tuple[Tensor, Tensor]:
    """Of [L, N]: parameters and values."""
    shape = seen["policy"].shape[:2]
    return net.sequence(seen, torch.zeros(shape[1], 0), torch.zeros(shape, dtype=torch.bool))


def acted(net: Model, distribution: Distribution, seen: Tensors, noise: Tensor | None) -> Tensor:
    actions, state = net.act(first(seen), torch.zeros(N, 0), noise)
    assert actions.shape == (N, distribution.action_size) and state.shape == (N, 0)
    return actions


@every_distribution
@pytest.mark.parametrize("shape", SHAPES, ids=["one block", "two blocks of two heads"])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_one_pass_is_deciding_in_turn(
    distribution: Distribution, shape: Any, masks: bool, drawn: bool
) -> None:
    """Given the actions, the pass says what each was drawn from: the same noise draws it again."""
    if masks and not distribution.mask_size:
        pytest.skip("nothing can be masked")
    net, seen = network(distribution, **shape), seen_by(distribution, masks=masks)
    noise = noise_of(distribution) if drawn else None
    with torch.no_grad():
        actions = acted(net, distribution, seen, noise)
        parameters, _ = passed(net, seen | {ACTIONS: actions.unsqueeze(0)})
        again = chosen(distribution, parameters[0], first(seen), noise)
    torch.testing.assert_close(again, actions, rtol=1e-10, atol=1e-10)
    if not drawn:
        stepped, _ = net.step(first(seen), torch.zeros(N, 0))
        torch.testing.assert_close(stepped, parameters[0], rtol=1e-10, atol=1e-10)


def naive(net: Any, seen: Tensors, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Agent by agent, whose attention is a weighted mean over a list of those whom it may look at."""
    heads = net.encoder[0].attention.heads

    def attend(layer: nn.Module, asking: Tensor, asked: list[Tensor]) -> Tensor:
        query, keys, values = (
            one.unflatten(-1, (heads, -1))
            for one in (layer.query(asking), layer.key(torch.stack(asked)), layer.value(torch.stack(asked)))  # type: ignore[operator]
        )
        found = []
        for h in range(heads):
            weights = functional.softmax(keys[:, h] @ query[h] / query.shape[-1] ** 0.5, dim=0)
            found.append(weights @ values[:, h])
        return layer.outputs(torch.cat(found))  # type: ignore[operator,no-any-return]

    parameters, values = [], []
    for g in range(len(actions) // AGENTS):
        rows = range(g * AGENTS, (g + 1) * AGENTS)
        there = [bool(seen[PRESENT][0, row]) for row in rows]
        encoded = [net.observation_layer(seen["policy"][0, row]) for row in rows]
        for block in net.encoder:
            looked = [
                attend(block.attention, x, [y for j, y in enumerate(encoded) if there[j] or i == j])
                for i, x in enumerate(encoded)
            ]
            added = [block.norms[0](x + y) for x, y in zip(encoded, looked, strict=True)]
            encoded = [block.norms[1](x + block.perceptron(x)) for x in added]
        values += [net.value_head(x) for x in encoded]
        mark = torch.zeros(1 + net.action_features.size).double()
        mark[0] = 1.0
        tokens = [mark]
        for row in list(rows)[:-1]:
            described = net.action_features(actions[row : row + 1])[0].double()
            tokens.append(torch.cat((torch.zeros(1).double(), described)))
        decoded = [net.action_layer(token) for token in tokens]
        for index, block in enumerate(net.decoder):
            # What stands at place j is of the action before, or behind a block of agent j itself.
            known = there if index else [True, *there[:-1]]
            allowed = [[j for j in range(i + 1) if known[j] or (index and i == j)] for i in range(AGENTS)]
            looked = [
                attend(block.attention, decoded[i], [decoded[j] for j in allowed[i]]) for i in range(AGENTS)
            ]
            taken = [block.norms[0](x + y) for x, y in zip(decoded, looked, strict=True)]
            crossed = [
                attend(block.cross_attention, encoded[i], [taken[j] for j in allowed[i]])
                for i in range(AGENTS)
            ]
            added = [block.norms[1](x + y) for x, y in zip(encoded, crossed, strict=True)]
            decoded = [block.norms[2](x + block.perceptron(x)) for x in added]
        parameters += [net.policy_head(net.policy_layer(x)) for x in decoded]
    return torch.stack(parameters), torch.stack(values)


@pytest.mark.parametrize("shape", SHAPES, ids=["one block", "two blocks of two heads"])
@pytest.mark.parametrize("name", ["choices", "numbers"])
def test_outputs_and_gradients_are_the_naive_ones(name: str, shape: Any) -> None:
    distribution = DISTRIBUTIONS[name]
    net, seen = network(distribution, **shape), seen_by(distribution)
    actions = acted(net, distribution, seen, noise_of(distribution)).detach()
    found = passed(net, seen | {ACTIONS: actions.unsqueeze(0)})
    expected = naive(net, seen, actions)
    wanted = []
    for parameters, values in ((found[0][0], found[1][0]), expected):
        loss = (distribution.log_prob(parameters, actions).sin() + values.square().sum(-1)).sum()
        wanted.append(torch.autograd.grad(loss, list(net.parameters())))
    torch.testing.assert_close(found[0][0], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1][0], expected[1], rtol=1e-9, atol=1e-9)
    for (key, _), one, other in zip(net.named_parameters(), *wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=key)


@every_distribution
def test_nobody_depends_on_actions_of_its_own_or_behind(distribution: Distribution) -> None:
    net, seen = network(distribution, attention_layers=2), seen_by(distribution)
    seen[PRESENT] = torch.ones_like(seen[PRESENT])
    actions = acted(net, distribution, seen, noise_of(distribution)).detach()
    before, values = passed(net, seen | {ACTIONS: actions.unsqueeze(0)})
    for k in range(AGENTS):
        other = actions.clone().view(G, AGENTS, -1)
        # Whole numbers are choices, of which there are two at least.
        other[:, k] = torch.where(other[:, k] == 0, 1, 0).to(other)
        after, same = passed(net, seen | {ACTIONS: other.view(1, N, -1)})
        change = (after - before)[0].view(G, AGENTS, -1).abs().sum(-1)
        assert torch.equal(same, values)
        assert not change[:, : k + 1].any() and (change[:, k + 1 :] > 1e-6).all()


@every_distribution
def test_those_who_are_gone_are_looked_at_by_none(distribution: Distribution) -> None:
    net, seen = network(distribution, attention_layers=2, attention_heads=2), seen_by(distribution)
    actions = acted(net, distribution, seen, noise_of(distribution)).detach()
    gone = ~seen[PRESENT][0, :, 0]
    before = passed(net, seen | {ACTIONS: actions.unsqueeze(0)})
    other, done = seen["policy"].clone(), actions.clone()
    other[:, gone] += 1.0
    done[gone] = torch.where(done[gone] == 0, 1, 0).to(done)
    after = passed(net, seen | {"policy": other, ACTIONS: done.unsqueeze(0)})
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one[:, ~gone], two[:, ~gone])
        assert not torch.equal(one, two)


def test_groups_and_steps_are_by_themselves() -> None:
    distribution = DISTRIBUTIONS["choice"]
    net, seen = network(distribution), seen_by(distribution, length=3)
    seen[ACTIONS] = torch.zeros(3, N, 1, dtype=torch.int64)
    parameters, values = passed(net, seen)
    assert parameters.shape == (3, N, 4) and values.shape == (3, N, 2)
    for step in range(3):
        for g in range(G):
            rows = slice(g * AGENTS, (g + 1) * AGENTS)
            own = {name: tensor[step : step + 1, rows] for name, tensor in seen.items()}
            alone = passed(net, own)
            torch.testing.assert_close(alone[0][0], parameters[step, rows], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(alone[1][0], values[step, rows], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "space", "agents", "said"),
    [
        ({}, BOX, 0, "'MultiAgentTransformer' is for environments with several agents"),
        ({"memory": "gru"}, BOX, 2, "has no memory: leave network.memory unset"),
        ({"attention_heads": 3}, BOX, 2, "attention_heads=3 doesn't divide network.attention_width=8"),
        (
            {},
            spaces.Box(0, 255, (3, 40, 40), np.uint8),
            2,
            r"takes vectors, not .* \(3, 40, 40\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings: Any, space: Any, agents: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        network(Categorical((4,)), space, agents, **settings)
