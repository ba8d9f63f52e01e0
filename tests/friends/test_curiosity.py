"""ICM and RND: rewards by hand, what trains and what doesn't, masks and layouts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.icm import ICM
from ppo_and_friends.friends.rnd import RND
from ppo_and_friends.networks.action_features import ActionFeatures
from ppo_and_friends.networks.distributions import Bernoulli, Categorical, Gaussian, SquashedGaussian
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import AtariSettings, friend
from ppo_and_friends.vector.factory import make_vector_env
from tests.engine import Episodes, on_ranks
from tests.engine import experiment as single
from tests.friends.runs import assert_same_on_any_ranks, build, drift, experiment, trained
from tests.rollouts import arrays

STACK = "gymnasium.wrappers:FrameStackObservation"


def with_friend(name: str, space: Any = None, image: bool = False, **arguments: Any) -> tuple[Trainer, Any]:
    chosen = experiment([friend(name, **arguments)], drift(space, image), precision="float64")
    trainer = build(chosen)
    return trainer, next(iter(trainer.friends))


def test_icm_reward_is_half_the_squared_error_of_the_forward_model() -> None:
    trainer, icm = with_friend("ICM", scale=0.3, normalize=False, extrinsic_weight=0.0)
    rollout = arrays(trainer.collect())
    assert not rollout.active.all()
    for t, b in [(0, 0), (6, 1), (7, 1), (15, 4)]:
        with torch.no_grad():
            present, future = (
                icm.encoder(torch.from_numpy(rollout.observations[row, b][None])) for row in (t, t + 1)
            )
            action = torch.from_numpy(rollout.actions[t, b][None]).clamp(-1, 1)
            error = icm.forward_model(torch.cat((present, action), -1)) - future
        expected = 0.3 * 0.5 * float((error**2).sum()) if rollout.active[t, b] else 0.0
        assert rollout.rewards["extrinsic"][t, b] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_icm_mixes_or_keeps_apart() -> None:
    plain, _ = with_friend("RewardScale", factor=1.0)
    reward = plain.collect().rewards["extrinsic"].clone()
    own, _ = with_friend("ICM", scale=0.3, extrinsic_weight=2.0, own_stream=True)
    apart = own.collect().rewards
    mixed, _ = with_friend("ICM", scale=0.3, extrinsic_weight=2.0)
    np.testing.assert_allclose(apart["extrinsic"], 2.0 * reward)
    np.testing.assert_allclose(mixed.collect().rewards["extrinsic"], 2.0 * reward + apart["curiosity"])
    assert list(own.network.streams) == ["extrinsic", "curiosity"]


@pytest.mark.parametrize(
    "space", [None, spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)]
)
def test_icm_learns_to_predict(space: Any) -> None:
    settings = {"learning_rate": 0.0, "epochs": 4}
    chosen = experiment([friend("ICM", lr=3e-3)], drift(space), ppo=settings)
    _, first = trained(chosen, 1)
    _, last = trained(chosen, 25)
    assert last["ICM/forward"] < 0.7 * first["ICM/forward"]


@pytest.mark.parametrize(
    ("distribution", "space", "action", "features"),
    [
        (Categorical((3,)), spaces.Discrete(3), [2], [0, 0, 1]),
        (Categorical((2, 3)), spaces.MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0]),
        (Bernoulli(2), spaces.MultiBinary(2), [1, 0], [1, 0]),
        (Gaussian(2), spaces.Box(-3.0, 3.0, (2,)), [0.5, -7.0], [0.5, -1.0]),
        (Gaussian(1), spaces.Box(-np.inf, np.inf, (1,)), [-7.0], [-7.0]),
        (SquashedGaussian(1), spaces.Box(-3.0, 3.0, (1,)), [0.5], [np.tanh(0.5)]),
    ],
)
def test_action_features(distribution: Any, space: Any, action: Any, features: Any) -> None:
    encode = ActionFeatures(distribution, space)
    dtype = torch.int64 if distribution.action_dtype is torch.int64 else torch.float64
    np.testing.assert_allclose(encode(torch.tensor([action], dtype=dtype))[0], features, rtol=1e-6)
    assert encode.size == len(features)


def test_rnd_reward_is_the_predictors_error_on_whitened_observations() -> None:
    trainer, rnd = with_friend("RND", clip=1.5)
    rollout = arrays(trainer.collect())
    following = rollout.observations[1:][rollout.active]
    np.testing.assert_allclose(rnd.mean, following.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(rnd.variance, following.var(axis=0), atol=1e-12)
    whitened = np.clip((following - following.mean(axis=0)) / following.std(axis=0), -1.5, 1.5)
    with torch.no_grad():
        inputs = torch.from_numpy(whitened)
        errors = (rnd.predictor(inputs) - rnd.target(inputs)).square().mean(-1).numpy()
    rewards = rollout.rewards["novelty"]
    np.testing.assert_allclose(rewards[rollout.active], errors * rnd.normalizer.scale, rtol=1e-9)
    assert not rewards[~rollout.active].any() and (~rollout.active).any()


@pytest.mark.parametrize("size", [1, 2])
def test_rnd_tells_large_numbers_apart_from_the_first_rollout_on(size: int) -> None:
    class Clock(Episodes):
        def __init__(self) -> None:
            super().__init__((3, 4))
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

        def _observe(self) -> Any:
            return np.array([1.7e9 + 30.0 * np.sin(self.t), 1e5 / 3.0])

    def work(trainer: Trainer, _: Any) -> None:
        trainer.collect()
        rnd: Any = next(iter(trainer.friends))
        # The last two bits of squares of 1.7e9 are 1,024: as much as the numbers themselves vary.
        assert 100.0 < rnd.variance[0].item() < 900.0 and rnd.variance[1].item() == 0.0

    on_ranks(single(Clock, (friend("RND"),), num_envs=4, precision="float64"), size, work)


def test_rnd_trains_the_predictor_and_never_the_target() -> None:
    chosen = experiment([friend("RND", lr=3e-3)], ppo={"learning_rate": 0.0, "epochs": 4})
    trainer, first = trained(chosen, 1)
    (rnd,) = trainer.friends
    assert isinstance(rnd, RND)
    target = {name: tensor.clone() for name, tensor in rnd.target.state_dict().items()}
    last = first
    for _ in range(20):
        last = trainer.train_iteration()
    assert last["RND/error"] < 0.5 * first["RND/error"]
    for name, tensor in rnd.target.state_dict().items():
        assert torch.equal(tensor, target[name])


def test_rnd_share_thins_out_what_the_predictor_learns_from() -> None:
    trainer, rnd = with_friend("RND", share=0.25)
    learned = [(trainer.collect(), rnd._learned.clone())[1] for _ in range(30)]
    values = torch.stack(learned)
    assert set(values.unique().tolist()) == {0.0, 4.0}
    assert float(values.mean()) == pytest.approx(1.0, abs=0.1)


class Screen(gymnasium.Env[Any, Any]):
    """Noise of a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, False, False, {}


@pytest.mark.parametrize(
    ("shape", "settings", "seen"),
    [
        ((3, 36, 40), {}, np.s_[:, :, :, :, :]),  # red, green, blue
        ((36, 40, 3), {}, np.s_[:, :, :, :, :]),
        ((36, 40), {}, np.s_[:, :, :, :, :]),
        ((2, 36, 40, 3), {}, np.s_[:, :, 3:]),  # two frames of three channels
        ((36, 40, 3), {"wrappers": (f"{STACK}(stack_size=2)",)}, np.s_[:, :, 3:]),
        ((36, 40), {"wrappers": (f"{STACK}(stack_size=4)",)}, np.s_[:, :, 3:]),
        ((4, 36, 40), {"atari": AtariSettings(stack=4)}, np.s_[:, :, 3:]),
    ],
)
def test_rnd_sees_every_channel_of_the_newest_frame(shape: Any, settings: Any, seen: Any) -> None:
    chosen = experiment([friend("RND")], partial(Screen, shape), precision="float64")
    atari = settings.pop("atari", None)
    chosen = replace(chosen, environment=replace(chosen.environment, **settings))
    layout = divide(5, 0, 1)
    with closing(make_vector_env(chosen.environment, layout, threads=1)) as envs:
        # Atari's own preprocessing needs a game: here the environment stacks, and the setting says so.
        chosen = replace(chosen, environment=replace(chosen.environment, atari=atari))
        trainer = build_trainer(chosen, SoloCommunicator(), envs)
        rollout = arrays(trainer.collect())
    (rnd,) = trainer.friends
    images = rollout.observations[1:]
    if images.shape[-1] == 3:
        images = images.transpose(0, 1, 4, 2, 3)
    newest = images[seen][rollout.active].astype(np.float64)
    assert rnd.mean.shape == newest.shape[1:] and len(newest) > 0
    np.testing.assert_allclose(rnd.mean, newest.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize(
    "chosen", [friend("ICM"), friend("ICM", own_stream=True), friend("RND"), friend("RND", share=0.5)]
)
def test_any_number_of_ranks(chosen: Any) -> None:
    assert_same_on_any_ranks(experiment([friend("ObservationNormalizer"), chosen]))


def test_their_step_size_is_their_own() -> None:
    for name in ("ICM", "RND"):
        trainer = build(experiment([friend(name, lr=0.125)]))
        assert [(group.name, group.learning_rate) for group in trainer.optimizer.groups] == [
            ("ppo", None),
            (name, 0.125),
        ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ICM(scale=0.0),
        lambda: ICM(forward_share=1.5),
        lambda: ICM(extrinsic_weight=-1.0),
        lambda: RND(weight=0.0),
        lambda: RND(share=0.0),
        lambda: RND(gamma=1.5),
    ],
)
def test_mistakes(make: Any) -> None:
    with pytest.raises(UsageError):
        make()
