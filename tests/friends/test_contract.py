"""What every friend must do, whatever it is for. New ones in the catalogue are tested by being there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.distributed.replication import assert_replicated
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import EpisodeHistory, Friend
from ppo_and_friends.friends.catalog import BUILT_IN, STARTING_POINTS, find_friend
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from ppo_and_friends.settings.experiment import Experiment, NetworkSettings, friend
from tests.beginnings import begun, played
from tests.engine import Episodes, Identity, experiment, on_ranks, train

BOX = partial(Identity, spaces.Box(-2.0, 2.0, (2,)))
ARGUMENTS: dict[str, dict[str, Any]] = {
    "SymmetryAugmentation": {"observation": (-1, -2), "action": (-1, -2)},
    "Curriculum": {"attributes": {"gain": "1,0.5@150"}},
    "DomainRandomisation": {"attributes": {"gain": (0.5, 2.0)}},
}
NAMES = [name for name in (*BUILT_IN, *STARTING_POINTS) if name != "Distillation"]
every_friend = pytest.mark.parametrize("name", NAMES)
"""Distillation needs an environment that shows the critic more: ``test_distillation.py``."""


def small(name: str, environment: Any = BOX, precision: str = "float64", **changes: Any) -> Experiment:
    settings = {"num_envs": 7, "rollout_timesteps": 7 * 12, "minibatch_size": 42} | changes
    arguments = ARGUMENTS.get(name, {})
    if name == "InitFrom":
        arguments = {"run": begun(experiment(environment, precision=precision, **settings))}
    if name == "BehaviourCloning":
        arguments = {"dataset": played(environment), "epochs": 2, "minibatch_size": 8}
    return experiment(environment, (friend(name, **arguments),), precision=precision, **settings)


def state(trainer: Trainer) -> dict[str, Any]:
    named = trainer.agent.tensors() | trainer.optimizer.state()
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}


def own(trainer: Trainer) -> Friend:
    (only,) = trainer.friends
    return only


@every_friend
def test_ranks_agree_and_their_number_does_not_matter(name: str) -> None:
    def work(trainer: Trainer, communicator: Any) -> tuple[dict[str, Any], dict[str, float]]:
        metrics: dict[str, float] = {}
        for _ in range(3):
            metrics = trainer.train_iteration()
        found = state(trainer)
        assert_replicated(communicator, found)
        return found, metrics

    by_size = {size: on_ranks(small(name), size, work) for size in (1, 3)}
    expected, expected_metrics = by_size[1][0]
    for found, metrics in by_size[3]:
        assert list(found) == list(expected)
        for key, value in found.items():
            np.testing.assert_allclose(value, expected[key], atol=1e-9, rtol=1e-9, err_msg=key)
        assert list(metrics) == list(expected_metrics)
        for key, number in metrics.items():
            np.testing.assert_allclose(number, expected_metrics[key], rtol=1e-7, atol=1e-8, err_msg=key)


@every_friend
def test_its_state_comes_back(name: str) -> None:
    settings = small(name, precision="float32")
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)

    def save(trainer: Trainer, _: Any) -> Any:
        for _ in range(2):
            trainer.train_iteration()
        tensors, plain = capture(trainer, 1.0)
        copies = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        seen = trainer.agent.policy().act({"policy": observations})
        history = EpisodeHistory(episode_starts=np.ones(5, bool))
        return (
            copies,
            plain,
            seen,
            trainer.friends.transform(observations, history),
            trainer.friends.metrics(),
        )

    def load(trainer: Trainer, _: Any) -> Any:
        checkpoint = Checkpoint(Path("saved"), plain["timesteps"], copies, plain, {})
        assert restore_trainer(trainer, checkpoint) == []
        for key, tensor in capture(trainer, 1.0)[0].items():
            np.testing.assert_array_equal(tensor.detach(), copies[key], err_msg=key)
        history = EpisodeHistory(episode_starts=np.ones(5, bool))
        np.testing.assert_array_equal(trainer.friends.transform(observations, history), transformed)
        np.testing.assert_array_equal(trainer.agent.policy().act({"policy": observations}), seen)
        again = trainer.friends.metrics()
        trainer.train_iteration()  # and it goes on
        return again

    ((copies, plain, seen, transformed, metrics),) = on_ranks(settings, 1, save)
    (again,) = on_ranks(settings, 1, load)
    assert list(again) == list(metrics)


@every_friend
def test_scores_stay_true(name: str) -> None:
    """Episodes of 3 steps whose rewards are 1, 2, 3 whatever is done, in rollouts of 8 steps."""
    settings = small(name, partial(Episodes, (3,)), num_envs=2, rollout_timesteps=16, minibatch_size=8)
    try:
        ranks = train(settings, 4, 2)
    except UsageError as error:
        pytest.skip(f"not for this environment: {error}")
    for _, metrics in ranks:
        for each in metrics:
            assert each["episodes"] > 0
            scores = {
                each[key] for key in ("episode_return_mean", "episode_return_min", "episode_return_max")
            }
            assert (scores, each["episode_return_std"], each["episode_length_mean"]) == ({6.0}, 0.0, 3.0)


class Picture(Episodes):
    """Random images."""

    def __init__(self) -> None:
        super().__init__((4,))
        self.observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)

    def _observe(self) -> Any:
        return self.np_random.integers(0, 255, (1, 36, 36), dtype=np.uint8)


class Bytes(Picture):
    """Random bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (6,), np.uint8)

    def _observe(self) -> Any:
        return self.np_random.integers(0, 255, 6, dtype=np.uint8)


KINDS: dict[str, Any] = {
    "image": Picture,
    "bytes": Bytes,
    "Discrete": partial(Identity, spaces.Discrete(3, start=-1)),
    "MultiDiscrete": partial(Identity, spaces.MultiDiscrete([2, 3])),
    "MultiBinary": partial(Identity, spaces.MultiBinary(2)),
    "scalar Box": partial(Identity, spaces.Box(-1.0, 1.0, ())),
    "integer Box": partial(Identity, spaces.Box(0, 4, (1,), np.int32)),
    "nested": partial(
        Identity,
        spaces.Dict(
            move=spaces.Box(-1.0, 1.0, (2,)),
            mode=spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(2)]),
        ),
    ),
    "unbounded Box": partial(Identity, spaces.Box(-np.inf, np.inf, (1,)), -1.0, 1.0),
}


@pytest.mark.slow  # a quarter of a second each, but there are hundreds
@every_friend
@pytest.mark.parametrize("kind", KINDS)
def test_other_spaces_work_or_are_refused_by_name(name: str, kind: str) -> None:
    settings = small(
        name,
        KINDS[kind],
        precision="float32",
        num_envs=2,
        rollout_timesteps=24,
        minibatch_size=12,
        network=NetworkSettings(actor_hidden=(8,), critic_hidden=(8,)),
    )
    try:
        ((trainer, metrics),) = train(settings, 2)
    except UsageError as error:
        assert name in str(error) and len(str(error).splitlines()) <= 2
        return
    assert trainer.optimizer.parameters.isfinite().all()
    assert np.isfinite(metrics[-1]["policy_loss"])


@every_friend
def test_it_says_where_it_comes_from(name: str) -> None:
    kind = find_friend(name)
    assert kind.__name__ == name
    assert (kind.__doc__ or "").strip() and not (kind.__doc__ or "").startswith("Base of all friends")
    assert kind.__init__ is Friend.__init__ or all(
        parameter in (kind.__init__.__annotations__ | {"self": 0})
        for parameter in kind.__init__.__code__.co_varnames[: kind.__init__.__code__.co_argcount]
    )


@every_friend
def test_nothing_else_is_random(name: str) -> None:
    """What it draws follows from the run's seed, not from torch's or NumPy's global generators."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        ((trainer, _),) = train(small(name), 2)
        found.append(state(trainer))
    for key, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][key], err_msg=key)
