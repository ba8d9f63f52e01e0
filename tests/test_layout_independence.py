"""1, 2 and 3 ranks learn the same: 16 environments as 16, 8 + 8, and 6 + 5 + 5."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.replication import assert_replicated
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings, friend
from tests.engine import Episodes, Identity, experiment, on_ranks, train

FRIENDS = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=5.0),
    friend("RewardNormalizer"),
    friend("RewardClip", low=-3.0, high=3.0),
    friend("AdvantageNormalizer"),
    friend("KLEarlyStop", target=0.05),
    friend("AdaptiveLearningRate", maximum=1e-3),
)
TOY = partial(Identity, spaces.MultiDiscrete([3, 2]))
ENVIRONMENTS: dict[str, Any] = {"CartPole": "CartPole-v1", "Pendulum": "Pendulum-v1", "MultiDiscrete": TOY}
ITERATIONS = 4


def parameters(settings: Experiment, size: int) -> dict[str, Any]:
    """Parameters and friends' statistics after some iterations, checked to be equal on all ranks."""

    def work(trainer: Any, communicator: Any) -> dict[str, Any]:
        for _ in range(ITERATIONS):
            trainer.train_iteration()
        named = {name: tensor.detach().numpy().copy() for name, tensor in trainer.agent.tensors().items()}
        moments = {name: tensor.numpy().copy() for name, tensor in trainer.optimizer.state().items()}
        assert_replicated(communicator, named | moments)
        return named

    return on_ranks(settings, size, work)[0]


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("precision", "friends", "tolerance"),
    [("float32", (), 1e-5), ("float64", (), 1e-9), ("float64", FRIENDS, 1e-9)],
    ids=["float32", "float64", "float64 and all friends"],
)
def test_the_same_parameters_on_any_number_of_ranks(
    name: str, precision: str, friends: Any, tolerance: float
) -> None:
    settings = experiment(ENVIRONMENTS[name], friends, precision=precision)
    alone = parameters(settings, 1)
    for size in (2, 3):
        got = parameters(settings, size)
        for key, expected in alone.items():
            np.testing.assert_allclose(got[key], expected, atol=tolerance, rtol=tolerance, err_msg=key)


def test_it_would_notice_a_difference() -> None:
    """A tenth of the learning rate's change is far above the tolerance."""
    some = [
        parameters(experiment("CartPole-v1", precision="float64", learning_rate=rate), 1)
        for rate in (3e-4, 3.003e-4)
    ]
    assert max(np.abs(some[0][key] - some[1][key]).max() for key in some[0]) > 1e-7


def test_more_ranks_than_environments() -> None:
    settings = experiment(partial(Episodes, (5,)), num_envs=2, rollout_timesteps=60, minibatch_size=20)
    for trainer, metrics in train(settings, 2, size=3):
        assert trainer.layout.local == 1 and trainer.layout.total == 3
        # 60 timesteps over 3 environments; episodes of 5 steps and a reset leave 5 / 6 of the rows.
        assert trainer.collector.steps == 20
        valid = 3 * (20 - 3), 3 * (20 - 3)  # resets at rows 5, 11, 17, then 3, 9, 15
        assert trainer.timesteps == sum(valid)
        assert metrics[0]["episodes"] == 9


def test_metrics_are_the_same_on_all_ranks_and_any_number_of_them() -> None:
    settings = experiment("CartPole-v1", FRIENDS, precision="float64")
    by_size = {size: train(settings, 3, size) for size in (1, 3)}
    for key, expected in by_size[1][0][1][-1].items():
        for _, metrics in by_size[3]:
            np.testing.assert_allclose(metrics[-1][key], expected, rtol=1e-8, atol=1e-9, err_msg=key)
    first = by_size[3][0][1]
    for _, metrics in by_size[3][1:]:
        np.testing.assert_equal(metrics, first)


def test_images_too() -> None:
    """The convolutions' gradients are summed like all others."""

    class Picture(Episodes):
        def __init__(self) -> None:
            super().__init__((4,))
            self.observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)

        def _observe(self) -> Any:
            return self.np_random.integers(0, 255, (1, 36, 36), dtype=np.uint8)

    settings = experiment(
        EnvironmentSettings(id="Toy-v0", factory=Picture, num_envs=4, backend="gymnasium"),
        precision="float64",
        network=NetworkSettings(),
        rollout_timesteps=32,
        minibatch_size=16,
    )
    alone, three = (parameters(settings, size) for size in (1, 3))
    for key, expected in alone.items():
        np.testing.assert_allclose(three[key], expected, atol=1e-9, err_msg=key)
