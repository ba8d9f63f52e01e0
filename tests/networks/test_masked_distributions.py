"""A distribution under a mask is the one over the legal alternatives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributions as peers

from ppo_and_friends.networks.distributions import Bernoulli, Categorical, Distribution, Gaussian
from ppo_and_friends.networks.joint import Joint
from ppo_and_friends.networks.kernels.distribution_gradients import distribution_gradients
from tests.networks.test_distributions import name, noise, parameters

ROWS = 60
EVERY: list[tuple[Distribution, tuple[int, ...]]] = [
    (Categorical((5,)), (5,)),
    (Categorical((3, 3)), (3, 3)),
    (Categorical((2, 5, 3)), (2, 5, 3)),
    (Bernoulli(3), (2, 2, 2)),
    (Joint((Categorical((3,)), Bernoulli(2), Categorical((2, 4)))), (3, 2, 2, 2, 4)),
]
for ours, _ in EVERY[1:]:
    ours.expect_masks()  # which changes how it is computed
each = pytest.mark.parametrize(("ours", "choices"), EVERY, ids=name)


def masks_of(choices: tuple[int, ...], seed: int = 0, rows: int = ROWS) -> Tensor:
    """At least one alternative of each choice is legal."""
    generator = np.random.default_rng(seed)
    found = [
        np.stack([generator.permutation(n) < generator.integers(1, n + 1) for _ in range(rows)])
        for n in choices
    ]
    return torch.from_numpy(np.concatenate(found, axis=1))


def by_hand(
    ours: Distribution, choices: tuple[int, ...], flat: Tensor, masks: Tensor
) -> list[list[peers.Categorical]]:
    """For each row and choice, the distribution over the legal alternatives, others with probability 0."""
    rows = []
    for row, mask in zip(flat, masks, strict=True):
        # A yes-or-no choice has the logits 0 and its parameter.
        logits: list[Tensor] = []
        parts = ours.parts if isinstance(ours, Joint) else (ours,)
        for part, own in zip(parts, row.split([part.parameter_size for part in parts]), strict=True):
            if isinstance(part, Categorical):
                logits += own.split(part.choices)
            else:
                logits += [torch.stack((torch.zeros_like(one), one)) for one in own]
        legal = mask.split(choices)
        rows.append(
            [
                peers.Categorical(probs=logit.softmax(-1) * one)
                for logit, one in zip(logits, legal, strict=True)
            ]
        )
    return rows


@each
def test_it_equals_the_distribution_over_what_is_legal(ours: Distribution, choices: tuple[int, ...]) -> None:
    masks = masks_of(choices)
    assert ours.mask_size == sum(choices) and ours.any_legal(masks).all()
    flats = [2.0 * parameters(ours, seed, ROWS) for seed in (1, 2)]
    old, new = (ours.masked(flat, masks) for flat in flats)
    hand_old, hand_new = (by_hand(ours, choices, flat, masks) for flat in flats)
    actions = ours.sample(old, noise(ours, ROWS))
    starts = torch.tensor(np.cumsum((0, *choices[:-1])))
    assert masks.gather(1, actions.long() + starts).all()
    assert masks.gather(1, ours.mode(old).long() + starts).all()
    expected = [
        sum(one.log_prob(action.long()) for one, action in zip(hand, row, strict=True))
        for hand, row in zip(hand_old, actions, strict=True)
    ]
    torch.testing.assert_close(ours.log_prob(old, actions), torch.stack(expected))
    entropies = [
        sum(-(one.probs[one.probs > 0] * one.probs[one.probs > 0].log()).sum() for one in hand)
        for hand in hand_old
    ]
    torch.testing.assert_close(ours.entropy(old), torch.stack(entropies))
    divergences = [
        sum(
            (p.probs[p.probs > 0] * (p.probs[p.probs > 0].log() - q.probs[p.probs > 0].log())).sum()
            for p, q in zip(one, other, strict=True)
        )
        for one, other in zip(hand_old, hand_new, strict=True)
    ]
    torch.testing.assert_close(ours.kl(old, new), torch.stack(divergences))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_pass_what_is_illegal_by(
    ours: Distribution, choices: tuple[int, ...], dtype: torch.dtype
) -> None:
    flat, masks = parameters(ours, 1, ROWS).to(dtype), masks_of(choices)
    actions = ours.sample(ours.masked(flat, masks), noise(ours, ROWS).to(dtype))
    written = distribution_gradients(ours, ours.masked(flat, masks), actions)
    for function, gradient in (
        (lambda own: ours.log_prob(own, actions), written.log_prob_gradient),
        (ours.entropy, written.entropy_gradient),
    ):
        leaf = flat.clone().requires_grad_()
        masked = ours.masked(leaf, masks)
        (expected,) = torch.autograd.grad(function(masked).sum(), leaf, retain_graph=True)
        (found,) = torch.autograd.grad(masked, leaf, gradient)
        assert expected.isfinite().all()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if isinstance(ours, Categorical):
            assert (expected[~masks] == 0.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_never_leads_to_an_illegal_action(dtype: torch.dtype) -> None:
    """Sums of many probabilities end below 1, and the noise may lie above: the last legal one is taken."""
    size = 1000
    ours = Categorical((size,))
    masks = torch.ones((200, size), dtype=torch.bool)
    masks[:, -3:] = False
    below_one = torch.tensor(1.0, dtype=dtype).nextafter(torch.tensor(0.0, dtype=dtype))
    flat = ours.masked(torch.randn((200, size), dtype=dtype), masks)
    actions = ours.sample(flat, below_one.expand(200, 1))
    assert masks.gather(1, actions).all()
    assert (actions > size - 20).all()


def test_extreme_logits_stay_legal() -> None:
    ours = Categorical((3,))
    flat = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    masks = torch.tensor([[False, True, False], [True, False, False]])
    masked = ours.masked(flat, masks)
    assert ours.mode(masked).flatten().tolist() == [1, 0]
    assert ours.entropy(masked).tolist() == [0.0, 0.0]
    assert ours.log_prob(masked, torch.tensor([[1], [0]])).tolist() == [0.0, 0.0]


def test_continuous_parts_have_no_masks() -> None:
    ours = Joint((Gaussian(2), Categorical((3,))))
    assert (Gaussian(2).mask_size, ours.mask_size) == (0, 3)
    flat = torch.randn(4, ours.parameter_size)
    masks = masks_of((3,), rows=4)
    masked = ours.masked(flat, masks)
    torch.testing.assert_close(masked[:, [0, 1, 5, 6]], flat[:, [0, 1, 5, 6]])
    assert (masked[:, 2:5] == torch.where(masks, flat[:, 2:5], -1e9)).all()
