"""Minibatches: every row once an epoch, equally many slices on all ranks, right counts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.distributed.randomness import Randomness
from ppo_and_friends.ppo.minibatches import Minibatch, MinibatchSource, active_counts, slice_bounds
from ppo_and_friends.ppo.rollout import Rollout


def rollout(steps: int, envs: int, first: int = 0) -> Rollout:
    """Every array holds the row's own number: 100 t + the global environment index."""
    number = (100.0 * np.arange(steps + 1)[:, None] + first + np.arange(envs)).astype(np.float64)
    now = number[:-1]
    valid = np.random.default_rng(first).random((steps, envs)) < 0.8
    no = torch.zeros((steps, envs), dtype=torch.bool)
    number, now = torch.from_numpy(number), torch.from_numpy(now)
    return Rollout(
        observations={"policy": torch.stack([number, -number], dim=-1)},
        episode_starts=torch.zeros((steps + 1, envs), dtype=torch.bool),
        states=torch.zeros((steps + 1, envs, 0)),
        actions=now[..., None].long(),
        terminated=no,
        truncated=no,
        trace_ends=no,
        active=torch.from_numpy(valid),
        finished=no,
        true_rewards=now,
        rewards={"extrinsic": now},
        policy_parameters=torch.stack([now, now + 1], dim=-1),
        log_probs=now,
        value_outputs={"extrinsic": number, "novelty": number + 0.5},
        advantages=now,
        value_targets={"extrinsic": now, "novelty": now + 0.25},
    )


@given(st.integers(1, 300), st.data())
def test_slices_cover_all_steps_evenly(steps: int, data: st.DataObject) -> None:
    minibatches = data.draw(st.integers(1, steps))
    bounds = slice_bounds(steps, minibatches)
    assert bounds[0][0] == 0 and bounds[-1][1] == steps and len(bounds) == minibatches
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    sizes = {last - first for first, last in bounds}
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_row_once_and_the_same_minibatches_on_any_layout(ranks: int) -> None:
    steps, envs, pieces = 11, 16, 4
    bounds = slice_bounds(steps, pieces)
    whole: list[set[float]] = [set() for _ in range(pieces)]
    for rank in range(ranks):
        layout = divide(envs, rank, ranks)
        own = rollout(steps, layout.local, layout.first)
        order = Randomness(3).shuffles(1, 0, layout, steps)
        counts = active_counts(own.active, [order], bounds)
        source = MinibatchSource(own)
        batches = list(source.epoch(order, bounds, counts[0]))
        assert [batch.index for batch in batches] == list(range(pieces))
        rows = torch.cat([batch.samples for batch in batches])
        assert sorted(rows.tolist()) == list(range(steps * layout.local))
        for batch, part in zip(batches, whole, strict=True):
            part |= set(batch.old_log_probs.tolist())
            # From every environment equally many rows.
            _, each = torch.remainder(batch.samples, layout.local).unique(return_counts=True)
            assert len(each) == layout.local and len(set(each.tolist())) == 1
            assert batch.count == max(1.0, float(batch.active.sum()))
    alone = Randomness(3).shuffles(1, 0, Layout(envs, 0, envs), steps)
    for (first, last), part in zip(bounds, whole, strict=True):
        assert part == {100.0 * t + b for b in range(envs) for t in alone[first:last, b]}


def test_all_tensors_of_a_row_belong_together() -> None:
    own = rollout(6, 3)
    order = Randomness(3).shuffles(1, 0, Layout(3, 0, 3), 6)
    bounds = slice_bounds(6, 2)
    for batch in MinibatchSource(own).epoch(order, bounds, np.array([5.0, 5.0])):
        number = batch.old_log_probs
        row_numbers = 100 * (batch.samples // 3) + batch.samples % 3
        for same in (row_numbers, batch.observations["policy"][:, 0], batch.actions[:, 0], batch.advantages):
            torch.testing.assert_close(same.double(), number)
        torch.testing.assert_close(batch.old_policy_parameters, torch.stack([number, number + 1], -1))
        torch.testing.assert_close(batch.value_targets, torch.stack([number, number + 0.25], -1))
        torch.testing.assert_close(batch.old_value_outputs, torch.stack([number, number + 0.5], -1))
        # Row + B is the next observation.
        flat = own.observations["policy"].flatten(0, 1)
        torch.testing.assert_close(flat[batch.samples + 3, 0], number + 100)
        assert batch.active.tolist() == own.active.flatten()[batch.samples].double().tolist()


def test_a_new_estimation_is_seen_by_the_next_epoch() -> None:
    own = rollout(4, 2)
    order, bounds = Randomness(3).shuffles(1, 0, Layout(2, 0, 2), 4), slice_bounds(4, 1)
    source = MinibatchSource(own)
    (before,) = source.epoch(order, bounds, np.array([8.0]))
    own.advantages = own.advantages + 7.0
    own.value_targets = {name: target + 5.0 for name, target in own.value_targets.items()}
    (after,) = source.epoch(order, bounds, np.array([8.0]))
    torch.testing.assert_close(after.advantages, before.advantages + 7.0)
    torch.testing.assert_close(after.value_targets, before.value_targets + 5.0)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_counts_as_counted(steps: int, envs: int, epochs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random((steps, envs)) < 0.7
    orders = [np.argsort(rng.random((steps, envs)), axis=0) for _ in range(epochs)]
    bounds = slice_bounds(steps, int(rng.integers(1, steps + 1)))
    counts = active_counts(torch.from_numpy(valid), orders, bounds)
    for epoch, order in enumerate(orders):
        for k, (first, last) in enumerate(bounds):
            expected = sum(valid[t, b] for b in range(envs) for t in order[first:last, b])
            assert counts[epoch, k] == expected
    assert (counts.sum(axis=1) == valid.sum()).all()


def test_the_mean_is_over_the_valid_rows_of_all_ranks() -> None:
    nothing: Any = torch.empty(0)
    parts = []
    for samples, valid in (([1.0, 2.0, 30.0], [1.0, 1.0, 0.0]), ([6.0], [1.0])):
        batch = Minibatch(*(nothing,) * 10, active=torch.tensor(valid), count=3.0)
        parts.append(float(batch.mean(torch.tensor(samples))))
    assert sum(parts) == pytest.approx((1.0 + 2.0 + 6.0) / 3.0)


def test_images_are_gathered_as_they_are_laid_out_for_convolutions() -> None:
    steps, envs = 5, 3
    images = np.random.default_rng(0).integers(0, 256, (steps + 1, envs, 4, 12, 10), dtype=np.uint8)
    source = rollout(steps, envs)
    source.observations = {"policy": torch.from_numpy(images)}
    order = np.stack([np.random.default_rng(env).permutation(steps) for env in range(envs)], axis=1)
    bounds = slice_bounds(steps, 2)
    for minibatch in MinibatchSource(source).epoch(order, bounds, np.ones(2)):
        seen = minibatch.observations["policy"]
        expected = images[:-1].reshape(-1, 4, 12, 10)[minibatch.samples]
        np.testing.assert_array_equal(seen, expected)
        assert seen.is_contiguous(memory_format=torch.channels_last)
