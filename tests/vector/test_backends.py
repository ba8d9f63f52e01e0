"""The contract of `VectorEnv`, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout, divide
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.vector import envpool
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import VectorStep
from tests.vector.toys import Clock, Spaces, toy

Make = Callable[..., CheckedVectorEnv]
needs_envpool = pytest.mark.skipif(not envpool.installed(), reason="EnvPool has no wheel here")
ENGINES = [pytest.param("envpool", marks=needs_envpool), "gymnasium", "async"]

ARRAYS = tuple(name for name in VectorStep.__slots__ if name not in ("infos", "waiting"))
"""Fields of a step that hold an entry for each row, with a single agent, too."""


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[CheckedVectorEnv] = []

    def build(settings: EnvironmentSettings, layout: Layout | int, threads: int = 1) -> CheckedVectorEnv:
        if isinstance(layout, int):
            layout = divide(layout, 0, 1)
        made.append(make_vector_env(settings, layout, threads))
        return made[-1]

    yield build
    for env in made:
        env.close()


def play(env: CheckedVectorEnv, steps: int, seed: int = 5) -> list[Any]:
    rng = np.random.default_rng(0)
    env.reset(seed)
    rows = []
    for _ in range(steps):
        step = env.step(random_actions(env, rng))
        rows.append([np.copy(data_of(step, name)) for name in ARRAYS])
    return rows


def data_of(step: VectorStep, name: str) -> Any:
    """A field as an array; of the observations, what the policy sees."""
    return step.observations["policy"] if name == "observations" else getattr(step, name)


def random_actions(env: CheckedVectorEnv, rng: np.random.Generator, count: int | None = None) -> Any:
    count = count or env.num_envs
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, count)
    assert isinstance(space, spaces.Box)
    return rng.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
@pytest.mark.parametrize("ending", ["terminated", "truncated", "both"])
def test_next_step_autoreset_written_out(make: Make, backend: str, ending: str) -> None:
    env = make(toy(partial(Clock, 2, ending), backend), Layout(9, 4, 2))
    np.testing.assert_array_equal(env.reset(20)["policy"], [[20, 0, 0], [21, 0, 0]])
    before = False
    expected = [  # episode, t, reward, ends, and then once more
        (0, 1, 1.0, False),
        (0, 2, 2.0, True),
        (1, 0, 0.0, False),
        (1, 1, 1.0, False),
        (1, 2, 2.0, True),
        (2, 0, 0.0, False),
    ]
    for episode, t, reward, ends in expected:
        step = env.step(np.zeros(2, np.int64))
        np.testing.assert_array_equal(step.observations["policy"], [[20, episode, t], [21, episode, t]])
        assert step.rewards.tolist() == step.true_rewards.tolist() == [reward] * 2
        assert step.terminated.tolist() == [ends and ending != "truncated"] * 2
        assert step.truncated.tolist() == [ends and ending == "truncated"] * 2
        assert step.finished.tolist() == [ends] * 2
        # The step after an end is the reset: no experience, and an episode's first observation.
        assert step.active.tolist() == [not before] * 2 and step.episode_starts.tolist() == [before] * 2
        before = ends
        for flags in (step.terminated, step.truncated, step.active, step.episode_starts, step.finished):
            assert flags.dtype == np.bool_


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("id", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_stock_environments_keep_the_contract(make: Make, backend: str, id: str) -> None:
    env = make(EnvironmentSettings(id=id, backend=backend, max_episode_steps=12), 3)  # type: ignore[arg-type]
    assert env.backend == backend
    over = np.zeros(3, np.bool_)
    ends = 0
    length = np.zeros(3, np.int64)
    for observations, rewards, terminated, truncated, active, starts, scores, finished in play(env, 40):
        assert observations.shape == (3, *env.observation_space.shape)
        assert observations.dtype == env.observation_space.dtype
        np.testing.assert_array_equal(rewards[over], 0.0)
        assert not (terminated | truncated)[over].any()  # the reset's row is no step
        length = np.where(over, 0, length + 1)
        assert not (terminated & truncated).any()
        assert (length[truncated] == 12).all()
        np.testing.assert_array_equal(finished, terminated | truncated)
        np.testing.assert_array_equal(starts, over)
        np.testing.assert_array_equal(active, ~over)
        np.testing.assert_array_equal(scores, rewards)
        if id == "CartPole-v1":
            # True final observations: exactly those lie beyond the limits of position or angle.
            beyond = (np.abs(observations[:, 0]) > 2.4) | (np.abs(observations[:, 2]) > 12 * np.pi / 180)
            np.testing.assert_array_equal(beyond & (length < 12), terminated & (length < 12))
        ends += int(finished.sum())
        over = finished
    assert ends >= 3


@pytest.mark.parametrize("backend", ENGINES)
def test_environments_follow_their_global_index(make: Make, backend: str) -> None:
    settings = EnvironmentSettings(id="CartPole-v1", backend=backend)  # type: ignore[arg-type]
    layouts = [divide(5, rank, 2) for rank in range(2)]
    rng = np.random.default_rng(1)
    whole = make(settings, 5)
    parts = [make(settings, layout) for layout in layouts]
    first = whole.reset(100)["policy"]
    np.testing.assert_array_equal(
        first,
        np.concatenate([p.reset(100 + lay.first)["policy"] for p, lay in zip(parts, layouts, strict=True)]),
    )
    assert len(np.unique(first, axis=0)) == 5
    for _ in range(40):
        actions = rng.integers(0, 2, 5)
        step = whole.step(actions)
        others = [
            p.step(actions[lay.first : lay.first + lay.local]) for p, lay in zip(parts, layouts, strict=True)
        ]
        for name in ARRAYS:
            np.testing.assert_array_equal(
                data_of(step, name), np.concatenate([data_of(other, name) for other in others])
            )


@pytest.mark.parametrize("backend", ENGINES)
def test_reset_starts_afresh_and_repeats_itself(make: Make, backend: str) -> None:
    env = make(EnvironmentSettings(id="CartPole-v1", backend=backend), 2)  # type: ignore[arg-type]
    first, second, other = play(env, 15, 3), play(env, 15, 3), play(env, 15, 4)
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(first[0][0], other[0][0])


@pytest.mark.parametrize("backend", ENGINES)
def test_large_seeds(make: Make, backend: str) -> None:
    env = make(EnvironmentSettings(id="CartPole-v1", backend=backend), 2)  # type: ignore[arg-type]
    observations = env.reset(2**62)["policy"]
    assert not np.array_equal(observations[0], observations[1])


@needs_envpool
def test_threads_change_nothing(make: Make) -> None:
    settings = EnvironmentSettings(id="BipedalWalker-v3", backend="envpool")
    for a, b in zip(play(make(settings, 3, 1), 30), play(make(settings, 3, 2), 30), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("backend", ENGINES)
def test_float64_observations_stay_float64(make: Make, backend: str) -> None:
    env = make(EnvironmentSettings(id="InvertedPendulum-v5", backend=backend), 2)  # type: ignore[arg-type]
    observations = env.reset(1)["policy"]
    assert observations.dtype == np.float64
    assert (observations != observations.astype(np.float32)).any()


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_nested_spaces_and_every_action_space(make: Make, backend: str) -> None:
    space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "k": spaces.Discrete(3, start=2)})
    actions: list[Any] = [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(0, np.inf, (2,)),
        spaces.Box(-1, 1, ()),
        spaces.Box(-3, 3, (2,), np.int32),
    ]
    for action_space in actions if backend == "gymnasium" else actions[:1]:
        env = make(toy(partial(Spaces, space, action_space), backend), 2)
        assert env.action_space == action_space
        observations = env.reset(0)["policy"]
        assert observations.shape == (2, 5) and (observations[:, :3].sum(1) == 1).all()
        env.step(np.stack([action_space.sample() for _ in range(2)]))


def test_environments_may_spoil_their_action(make: Make) -> None:
    class Spoiler(Spaces):
        def step(self, action: Any) -> Any:
            action[:] = 7.0
            return super().step(self.action_space.sample())

    env = make(toy(lambda: Spoiler(spaces.Discrete(2), spaces.Box(-1, 1, (2,)))), 2)
    actions = np.zeros((2, 2), np.float32)
    env.reset(0)
    env.step(actions)
    assert (actions == 0).all()


ATARI = [pytest.param("envpool", marks=needs_envpool), "gymnasium", "ale"]


def atari(backend: str, **atari: Any) -> EnvironmentSettings:
    return EnvironmentSettings(
        id="BreakoutNoFrameskip-v4",
        backend=backend,  # type: ignore[arg-type]
        atari=AtariSettings(**atari),
    )


@pytest.mark.parametrize("backend", ATARI)
def test_a_lost_life_ends_the_episode_but_not_the_game(make: Make, backend: str) -> None:
    env = make(atari(backend), 2)
    assert env.observation_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert env.action_space == spaces.Discrete(4)
    env.reset(3)
    lives = np.zeros(2, np.int64)
    games = 0
    over = np.zeros(2, np.bool_)
    for t in range(700):
        step = env.step(np.full(2, 1 if t % 2 else 3))  # fire, and away from the ball
        assert set(np.unique(step.rewards)) <= {-1.0, 0.0, 1.0}
        np.testing.assert_array_equal(step.rewards, np.sign(step.true_rewards))
        assert not step.truncated.any()
        resets = step.episode_starts
        assert not (step.terminated & resets).any()
        assert not (step.rewards[resets].any() or step.true_rewards[resets].any())
        assert (step.terminated | ~step.finished).all()  # the end of a game is an end
        np.testing.assert_array_equal(step.active, ~step.episode_starts)
        np.testing.assert_array_equal(step.episode_starts, over)  # a lost life resets nothing
        lives += step.terminated
        assert (lives[step.finished] == 5).all()  # Breakout has five
        games += int(step.finished.sum())
        lives[step.finished] = 0
        over = step.finished
    assert games >= 2


@pytest.mark.parametrize("backend", ATARI)
def test_true_games_without_life_loss_or_clipping(make: Make, backend: str) -> None:
    env = make(atari(backend, life_loss_ends_episode=False, clip_rewards=False), 1)
    env.reset(3)
    for t in range(400):
        step = env.step(np.full(1, 1 if t % 2 else 3))
        np.testing.assert_array_equal(step.terminated, step.finished)
        np.testing.assert_array_equal(step.rewards, step.true_rewards)


@pytest.mark.parametrize("backend", ATARI)
def test_atari_time_limit_counts_agent_steps(make: Make, backend: str) -> None:
    settings = EnvironmentSettings(
        id="AssaultNoFrameskip-v4",
        backend=backend,  # type: ignore[arg-type]
        atari=AtariSettings(noop_max=1),
        max_episode_steps=25,
    )
    env = make(settings, 1)
    env.reset(0)
    cut = next(t for t in range(1, 40) if env.step(np.zeros(1, np.int64)).truncated[0])
    assert cut in ((25,) if backend != "ale" else (24, 25))  # ALE counts the no-op frames as well


def test_ram_is_the_last_four_states(make: Make) -> None:
    env = make(atari("auto", observation="ram"), 1)
    assert env.observation_space == spaces.Box(0, 255, (512,), np.uint8)
    before = env.reset(0)["policy"].copy()
    np.testing.assert_array_equal(before[0, :128], before[0, 384:])
    for _ in range(5):
        after = env.step(np.ones(1, np.int64)).observations["policy"].copy()
        np.testing.assert_array_equal(after[0, :384], before[0, 128:])
        before = after


@pytest.mark.parametrize("backend", ["auto", "async"])
def test_bits_are_those_of_the_bytes(make: Make, backend: str) -> None:
    """On every row, over lost lives and new games, whoever steps them; the other flags are the same."""
    packed = make(atari("gymnasium", observation="ram", stack=2), 2)
    bits = make(atari(backend, observation="ram_bits", stack=2), 2)
    assert bits.observation_space == spaces.Box(-np.inf, np.inf, (2048,), np.float32)
    rng = np.random.default_rng(0)
    expected, found = packed.reset(5)["policy"], bits.reset(5)["policy"]
    np.testing.assert_array_equal(found, np.unpackbits(expected, axis=1))
    starts = 0
    for _ in range(400):
        actions = rng.integers(0, 4, 2)
        step, other = packed.step(actions), bits.step(actions)
        np.testing.assert_array_equal(
            other.observations["policy"], np.unpackbits(step.observations["policy"], axis=1)
        )
        for name in ("rewards", "terminated", "truncated", "active", "episode_starts", "finished"):
            np.testing.assert_array_equal(getattr(other, name), getattr(step, name))
        starts += int(step.episode_starts.sum())
    assert starts > 0


@needs_envpool
@pytest.mark.parametrize("id", sorted(envpool.VERIFIED))
def test_envpool_has_the_canonical_spaces_and_limits(make: Make, id: str) -> None:
    settings = EnvironmentSettings(id=id, backend="envpool")
    pool = make(settings, 1)
    canonical = make_canonical_env(settings)
    sync = make(EnvironmentSettings(id=id, backend="gymnasium"), 1)
    assert pool.action_space == canonical.action_space
    assert pool.observation_space == sync.observation_space
    import envpool as library

    assert canonical.spec is not None
    limit = library.make_spec(id).config.max_episode_steps
    assert limit == canonical.spec.max_episode_steps
