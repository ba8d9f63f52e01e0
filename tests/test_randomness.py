"""What is drawn depends on seed, purpose, iteration and environment, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.distributed.randomness import Purpose, Randomness


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_noise_does_not_depend_on_the_layout(kind: str, size: int) -> None:
    randomness = Randomness(7)
    whole = randomness.noise(kind, 3, Layout(16, 0, 16), steps=5, size=2)  # type: ignore[arg-type]
    parts = [
        randomness.noise(kind, 3, divide(16, rank, size), 5, 2)  # type: ignore[arg-type]
        for rank in range(size)
    ]
    assert whole.dtype == np.float32 and whole.shape == (5, 16, 2)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_shuffles_are_permutations_and_do_not_depend_on_the_layout() -> None:
    randomness = Randomness(7)
    whole = randomness.shuffles(3, 1, Layout(16, 0, 16), steps=9)
    parts = [randomness.shuffles(3, 1, divide(16, rank, 3), 9) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert (np.sort(whole, axis=0) == np.arange(9)[:, None]).all()
    assert len({tuple(column) for column in whole.T}) == 16


def test_every_environment_draws_from_a_generator_of_its_own() -> None:
    randomness, layout = Randomness(7), Layout(9, 2, 3)
    noise, order = randomness.noise("normal", 3, layout, 5, 3), randomness.shuffles(3, 1, layout, 9)
    for row, index in enumerate((2, 3, 4)):
        draw = randomness.generator(Purpose.ACTIONS, 3, index).standard_normal((5, 3), dtype=np.float32)
        np.testing.assert_array_equal(noise[:, row], draw)
        permutation = randomness.generator(Purpose.SHUFFLE, 3, 1, index).permutation(9)
        np.testing.assert_array_equal(order[:, row], permutation)


def test_everything_that_should_change_the_numbers_does() -> None:
    layout = Layout(4, 0, 4)
    draws = [
        Randomness(seed).noise("normal", iteration, layout, 8, 1)
        for seed in (1, 2)
        for iteration in (1, 2)
    ]  # fmt: skip
    everything = np.concatenate([draw.reshape(8, 4).T for draw in draws])
    assert len({row.tobytes() for row in everything}) == 16
    orders = {Randomness(1).shuffles(i, e, layout, 30).tobytes() for i in range(4) for e in range(4)}
    assert len(orders) == 16
    integers = {Randomness(1).integer(p, i) for p in Purpose for i in range(50)}
    assert len(integers) == 50 * len(Purpose)


def test_it_is_repeatable_and_leaves_room_for_an_index() -> None:
    assert Randomness(2**63 - 1).integer(Purpose.RESET, 2**40) == Randomness(2**63 - 1).integer(4, 2**40)
    seeds = [Randomness(seed).integer(Purpose.RESET, 1) for seed in range(200)]
    assert min(seeds) >= 0 and max(seeds) < 2**30 and max(seeds) > 2**29


def test_it_is_distributed_as_it_says() -> None:
    layout = Layout(8, 0, 8)
    normal = Randomness(1).noise("normal", 1, layout, 500, 2)
    uniform = Randomness(1).noise("uniform", 1, layout, 500, 2)
    for quantiles in (torch.special.ndtr(torch.from_numpy(normal)).numpy(), uniform):
        # Kolmogorov-Smirnov: 1.63 / sqrt(n) is passed by chance once in a hundred.
        gaps = np.sort(quantiles.ravel()) - (np.arange(8000) + 0.5) / 8000
        assert np.abs(gaps).max() < 1.63 / np.sqrt(8000)
    # Environments are independent: correlations are about 1 / sqrt(1000).
    correlation = np.corrcoef(normal.transpose(1, 0, 2).reshape(8, -1))
    assert np.abs(correlation - np.eye(8)).max() < 0.15


def test_neighbouring_places_are_independent_however_large() -> None:
    """Above 2^63, too, where a float can't tell them apart."""
    random = Randomness(5)
    drawn = [random.generator(Purpose.FRIENDS, 3, 1, 2**64 - back).random() for back in range(1, 9)]
    assert len(set(drawn)) == 8
