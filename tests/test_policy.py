"""A trained policy as a plain object: what it does follows from the trained parts alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from tests.engine import Identity, experiment, on_ranks

NORMALISED = (friend("ObservationNormalizer"), friend("ObservationClip", limit=3.0))
BOX = partial(Identity, spaces.Box(-2.0, 6.0, (2,)))
OBSERVATIONS = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)


def with_trainer(work: Any, environment: Any = BOX, precision: str = "float32") -> None:
    settings = experiment(
        environment,
        NORMALISED,
        precision=precision,
        num_envs=4,
        rollout_timesteps=64,
        minibatch_size=32,
        network=NetworkSettings(actor_output_gain=1.0),
    )

    def run(trainer: Trainer, _: Any) -> None:
        trainer.train_iteration()
        work(trainer)

    on_ranks(settings, 1, run)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_mode_of_what_the_network_says_of_normalised_observations(precision: str) -> None:
    def work(trainer: Trainer) -> None:
        normalizer: Any = trainer.friends.members["ObservationNormalizer"]
        seen = (OBSERVATIONS - normalizer.mean.numpy()) / np.sqrt(normalizer.variance.numpy() + 1e-8)
        inputs = torch.from_numpy(np.clip(seen, -3, 3)).to(trainer.agent.dtype)
        with torch.no_grad():
            means = trainer.network.policy(inputs)[:, :2].numpy()
        got = trainer.agent.policy().act({"policy": OBSERVATIONS})
        np.testing.assert_allclose(got, np.clip(2.0 + 4.0 * means, -2.0, 6.0), atol=1e-4)
        assert got.dtype == np.float32 and got.std() > 0.1

    with_trainer(work, precision=precision)


def test_statistics_are_frozen_and_training_is_not_disturbed() -> None:
    found = []
    for visits in (0, 3):

        def work(trainer: Trainer, visits: int = visits) -> None:
            before = {name: tensor.clone() for name, tensor in trainer.agent.tensors().items()}
            for _ in range(visits):
                policy = trainer.agent.policy()
                policy.reset(seed=1)
                policy.act({"policy": 100 * OBSERVATIONS}, deterministic=False)
            assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.agent.tensors().items())
            trainer.train_iteration()
            found.append({name: tensor.clone() for name, tensor in trainer.agent.tensors().items()})

        with_trainer(work)
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_drawing_follows_its_seed_and_the_distribution() -> None:
    def work(trainer: Trainer) -> None:
        policy = trainer.agent.policy()
        same = np.tile(OBSERVATIONS[:1], (4000, 1))
        policy.reset(seed=7)
        first, second = (
            policy.act({"policy": same}, deterministic=False),
            policy.act({"policy": same}, deterministic=False),
        )
        policy.reset(seed=7)
        np.testing.assert_array_equal(policy.act({"policy": same}, deterministic=False), first)
        assert (first != second).any()
        # Means of 4000 draws of deviation 4 (half the range) are within 4 x 4 / sqrt(4000) = 0.25,
        # and clipping at the bounds only brings them nearer to the middle.
        mean = policy.act({"policy": same[:1]})[0]
        inside = np.abs(mean - 2.0) < 1.0
        assert np.abs(first.mean(axis=0) - mean)[inside].max(initial=0.0) < 1.0

    with_trainer(work)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(-1.0, 1.0, ()),
        spaces.Box(0, 4, (1,), np.int32),
    ],
    ids=str,
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_are_in_the_environments_space(space: spaces.Space[Any], deterministic: bool) -> None:
    def work(trainer: Trainer) -> None:
        size = trainer.collector.envs.observation_space.shape[0]
        policy = trainer.agent.policy()
        for rows in (1, 7):
            policy.reset(seed=0)
            actions = policy.act({"policy": np.zeros((rows, size), np.float32)}, deterministic=deterministic)
            assert actions.shape == (rows, *(space.shape or ()))
            for action in actions:
                # A row of a scalar Box is a bare number, where the space wants an array.
                assert space.contains(np.asarray(action) if isinstance(space, spaces.Box) else action)

    with_trainer(work, partial(Identity, space))
