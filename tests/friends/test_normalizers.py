"""Statistics on 1, 2 and 3 ranks against a two-pass computation over the same data."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import EpisodeHistory, Friend, normalizers, observation_normalizer
from ppo_and_friends.friends.moments import global_moments, merge_moments
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import friend
from tests.engine import Episodes, Identity, experiment, on_ranks
from tests.rollouts import arrays

BOX = partial(Identity, spaces.Box(-2.0, 2.0, (2,)))
ENVIRONMENTS: dict[str, Any] = {
    "EnvPool": "MountainCarContinuous-v0",
    "Gymnasium": BOX,
    "reset rows": partial(Episodes, (3, 4)),
}
sizes = pytest.mark.parametrize("size", [1, 2, 3])
environments = pytest.mark.parametrize("name", ENVIRONMENTS)


class Recorder(Friend):
    """Keeps copies of all that comes by: raw observations, rewards before and after, advantages."""

    def __init__(self) -> None:
        super().__init__()
        self.observations: list[Any] = []
        self.rewards: list[Any] = []
        self.rows: list[tuple[Any, Any, Any, bool]] = []

    def transform(self, observations: Any, history: EpisodeHistory) -> Any:
        self.observations.append(np.array(observations))
        return observations

    def after_rollout(self, rollout: Rollout) -> None:
        ends = rollout.terminated | rollout.truncated
        raw = rollout.rewards["extrinsic"].numpy()
        self.rewards.append(raw.copy())
        self.rows.append((rollout.active.numpy().copy(), ends.numpy(), raw, rollout.restarted))


def recorded(environment: Any, name: str, size: int) -> tuple[list[Trainer], list[Recorder]]:
    """Trainers after three rollouts without updates; what came to the friend ``name``."""
    settings = experiment(environment, (friend(Recorder), friend(name)), num_envs=6, rollout_timesteps=120)

    def work(trainer: Trainer, _: Any) -> Trainer:
        for _ in range(3):
            trainer.estimate(trainer.collect())
        return trainer

    trainers = on_ranks(settings, size, work)
    recorders = [friend for trainer in trainers for friend in trainer.friends if isinstance(friend, Recorder)]
    return trainers, recorders


@sizes
@environments
@pytest.mark.parametrize("kept", [1, 50, observation_normalizer.KEPT_NUMBERS])
def test_observations(name: str, size: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation_normalizer, "KEPT_NUMBERS", kept)
    trainers, recorders = recorded(ENVIRONMENTS[name], "ObservationNormalizer", size)
    # 20 steps a rollout, each followed by a look at the last observation, which is shown again.
    acted = [
        np.stack(each.observations).reshape(3, 21, -1, *each.observations[0].shape[1:]) for each in recorders
    ]
    data = np.concatenate([each[:, :20] for each in acted], axis=2).astype(np.float64)
    flat = data.reshape(-1, data.shape[-1])
    for trainer in trainers:
        normalizer: Any = trainer.friends.members["ObservationNormalizer"]
        assert normalizer.count.item() == len(flat) == 360
        np.testing.assert_allclose(normalizer.mean.numpy(), flat.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(normalizer.variance.numpy(), flat.var(axis=0), rtol=1e-9, atol=1e-12)
        history = EpisodeHistory(episode_starts=np.ones(2, bool))
        got = normalizer.transform(flat[:2], history)
        np.testing.assert_allclose(got, (flat[:2] - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-8), rtol=1e-6)


@sizes
@environments
def test_rewards(name: str, size: int) -> None:
    trainers, recorders = recorded(ENVIRONMENTS[name], "RewardNormalizer", size)
    gamma = trainers[0].settings.gamma
    sums = []
    for recorder in recorders:
        running = np.zeros(recorder.rewards[0].shape[1])
        for raw, (valid, ends, _, restarted) in zip(recorder.rewards, recorder.rows, strict=True):
            assert restarted == (raw is recorder.rewards[0])
            for t in range(len(raw)):
                running = gamma * running + raw[t]
                sums += running[valid[t]].tolist()
                running[ends[t]] = 0.0
    for trainer in trainers:
        normalizer: Any = trainer.friends.members["RewardNormalizer"]
        assert normalizer.count.item() == len(sums)
        assert normalizer.variance.item() == pytest.approx(np.var(sums), rel=1e-7)
        assert normalizer.scale == pytest.approx(1.0 / np.std(sums), rel=1e-6)
        rollout = arrays(trainer.collector.rollout)
        ratio = rollout.rewards["extrinsic"] / normalizer.scale
        recorder = next(each for each in trainer.friends if isinstance(each, Recorder))
        np.testing.assert_allclose(ratio, recorder.rewards[-1], rtol=1e-5)


@sizes
def test_advantages(size: int) -> None:
    settings = experiment(partial(Episodes, (3, 4)), (friend("AdvantageNormalizer"),), num_envs=6)

    def work(trainer: Trainer, _: Any) -> Any:
        rollout = trainer.collect()
        trainer.estimate(rollout)
        return rollout.advantages[rollout.active].tolist(), rollout.returns["extrinsic"][
            rollout.active
        ].tolist()

    ranks = on_ranks(settings, size, work)
    advantages = np.array([number for rank in ranks for number in rank[0]])
    assert abs(advantages.mean()) < 1e-5 and advantages.std() == pytest.approx(1.0, abs=1e-4)
    # Returns stay in the rewards' units.
    assert np.max(ranks[0][1]) > 3.0


def test_the_first_rollout_passes_unchanged_and_statistics_are_frozen_within_one() -> None:
    settings = experiment(BOX, (friend(Recorder), friend("ObservationNormalizer")), num_envs=4)

    def work(trainer: Trainer, _: Any) -> None:
        recorder = next(each for each in trainer.friends if isinstance(each, Recorder))
        normalizer: Any = trainer.friends.members["ObservationNormalizer"]
        mean, variance = np.zeros(2), np.ones(2) - normalizer.epsilon
        for _ in range(2):
            recorder.observations.clear()
            rollout = trainer.collect()
            raw = np.stack(recorder.observations)
            np.testing.assert_allclose(
                rollout.observations["policy"],
                (raw - mean) / np.sqrt(variance + normalizer.epsilon),
                atol=1e-5,
            )
            mean, variance = normalizer.mean.numpy().copy(), normalizer.variance.numpy().copy()

    on_ranks(settings, 1, work)


def test_a_rollout_that_was_broken_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = experiment(BOX, (friend("ObservationNormalizer"),), num_envs=4)

    observe, seen, broken_at = ObservationNormalizer.observe, 0, -1

    def fail(self: Any, step: Any) -> None:
        nonlocal seen
        observe(self, step)
        seen += 1
        if seen == broken_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(ObservationNormalizer, "observe", fail)

    def work(trainer: Trainer, _: Any) -> None:
        nonlocal broken_at
        steps = trainer.collector.steps
        normalizer: Any = trainer.friends.members["ObservationNormalizer"]
        broken_at = steps - 1
        with pytest.raises(KeyboardInterrupt):
            trainer.collect()
        trainer.collect()
        assert normalizer.count.item() == 4 * steps

    on_ranks(settings, 1, work)


def test_a_constant_component_does_not_blow_up() -> None:
    class Constant(Episodes):
        def _observe(self) -> Any:
            return np.array([1e6, self.t], np.float32)

    trainers, _ = recorded(Constant, "ObservationNormalizer", 1)
    normalizer: Any = trainers[0].friends.members["ObservationNormalizer"]
    got = normalizer.transform(np.array([[1e6, 2.0]]), EpisodeHistory(episode_starts=np.ones(1, bool)))
    assert np.abs(got).max() < 10.0


@sizes
@pytest.mark.parametrize("kept", [1, 50, observation_normalizer.KEPT_NUMBERS])
def test_large_numbers_keep_their_variance_from_the_first_rollout_on(
    size: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(Episodes):
        """A time stamp, a large constant and a small one, a counter."""

        def __init__(self, lengths: tuple[int, ...]) -> None:
            super().__init__(lengths)
            self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)

        def _observe(self) -> Any:
            return np.array([1.7e9 + 30.0 * np.sin(self.t), 1e5 / 3.0, 0.1, self.t])

    monkeypatch.setattr(observation_normalizer, "KEPT_NUMBERS", kept)
    settings = experiment(
        partial(Clock, (3, 4)), (friend("ObservationNormalizer"),), num_envs=6, rollout_timesteps=120
    )

    # 20 steps of episodes of 3 and 4 steps, each with its last observation.
    times = np.array([*range(4), *range(5), *range(4), *range(5), 0, 1], np.float64)
    expected = [900.0 * np.sin(times).var(), 0.0, 0.0, times.var()]

    def work(trainer: Trainer, _: Any) -> None:
        normalizer: Any = trainer.friends.members["ObservationNormalizer"]
        for _ in range(2):
            rollout = trainer.collect()
            trainer.estimate(rollout)
            # Squares of 1.7e9 are 512 apart in double precision; the numbers themselves 2.4e-7.
            if rollout.iteration == 1:
                np.testing.assert_allclose(normalizer.variance.numpy(), expected, rtol=1e-7)
                assert (normalizer.variance.numpy()[1:3] == 0.0).all()
        assert float(rollout.observations["policy"].abs().max()) < 5.0

    on_ranks(settings, size, work)


@pytest.mark.parametrize(("dtype", "apart"), [(np.float32, 1e-5), (np.float64, 1e-7)])
def test_a_component_that_never_varied_is_not_scaled_up_when_it_moves(dtype: Any, apart: float) -> None:
    class Still(Episodes):
        """Constant but for rounding: in single precision numbers near 100 are 7.6e-6 apart."""

        def __init__(self, lengths: tuple[int, ...]) -> None:
            super().__init__(lengths)
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), dtype)

        def _observe(self) -> Any:
            return np.array([100.0 + apart * (self.t % 2), self.t], dtype)

    trainers, _ = recorded(partial(Still, (3, 4)), "ObservationNormalizer", 1)
    normalizer: Any = trainers[0].friends.members["ObservationNormalizer"]
    got = normalizer.transform(np.array([[100.01, 2.0]]), EpisodeHistory(episode_starts=np.ones(1, bool)))
    assert got[0, 0] == pytest.approx(0.01, abs=2e-5)


@pytest.mark.parametrize("epsilon", [0.0, 1e-8, 1e-2])
def test_rewards_that_never_varied_stay_as_they_are(epsilon: float) -> None:
    normalizer = normalizers.RewardNormalizer(epsilon=epsilon)
    normalizer.variance.fill_(0.0)
    normalizer.mean.fill_(0.3)
    assert normalizer.scale == 1.0
    normalizer.variance.fill_(1e-16)  # a deviation of 1e-8 about 0.3 is single precision's rounding
    assert normalizer.scale == 1.0
    normalizer.variance.fill_(4.0)
    assert normalizer.scale == pytest.approx((4.0 + epsilon) ** -0.5)


def test_rewards_of_nothing_stay_as_they_are() -> None:
    class Nothing(Episodes):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    trainers, _ = recorded(Nothing, "RewardNormalizer", 2)
    normalizer: Any = trainers[0].friends.members["RewardNormalizer"]
    assert normalizer.scale == 1.0


def test_images_are_refused() -> None:
    class Picture(Episodes):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)

    with pytest.raises(UsageError, match="--without ObservationNormalizer"):
        recorded(Picture, "ObservationNormalizer", 1)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), min_size=1, max_size=6))
def test_merging_is_as_all_at_once(batches: list[list[float]]) -> None:
    moments: Any = (0.0, np.zeros(1), np.ones(1))
    for batch in batches:
        moments = merge_moments(
            *moments, float(len(batch)), np.array([np.mean(batch)]), np.array([np.var(batch)])
        )
    everything = np.concatenate([np.array(batch) for batch in batches])
    assert moments[0] == len(everything)
    np.testing.assert_allclose(moments[1], everything.mean(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments[2], everything.var(), rtol=1e-7, atol=1e-7)


def test_merging_nothing() -> None:
    kept = merge_moments(0.0, np.zeros(1), np.ones(1), 0.0, np.zeros(1), np.zeros(1))
    assert kept == (0.0, np.zeros(1), np.ones(1))
    kept = merge_moments(5.0, np.array(2.0), np.array(3.0), 0.0, np.array(9.0), np.array(9.0))
    assert kept == (5.0, 2.0, 3.0)


@sizes
def test_global_moments(size: int) -> None:
    samples = np.random.default_rng(0).normal(1e4, 1.0, (8, 12)).astype(np.float32)
    valid = np.random.default_rng(1).random((8, 12)) < 0.5

    def work(communicator: Any) -> Any:
        own = slice(communicator.rank * 12 // size, (communicator.rank + 1) * 12 // size)
        return global_moments(samples[:, own], valid[:, own], communicator)

    exact = samples[valid].astype(np.float64)
    for found in run_threaded(size, work):
        np.testing.assert_allclose(found, (len(exact), exact.mean(), exact.var()), rtol=1e-10)
    assert run_threaded(1, lambda comm: global_moments(samples, valid & False, comm)) == [(0.0, 0.0, 0.0)]


@pytest.mark.parametrize(
    "kind", [ObservationNormalizer, normalizers.RewardNormalizer, normalizers.AdvantageNormalizer]
)
def test_a_negative_epsilon_is_refused(kind: Any) -> None:
    """It would turn advantages around, or be the root of a negative number."""
    with pytest.raises(UsageError, match=f"{kind.__name__}: epsilon must not be negative, but it is -1"):
        kind(epsilon=-1.0)
    kind(epsilon=0.0)
