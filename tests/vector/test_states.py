"""States of environments: saved, set in another one that was made alike, and all that follows is equal."""

from __future__ import annotations

import contextlib
import enum
import warnings
from collections import deque
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.states.capture import captured
from ppo_and_friends.vector.states.errors import BadStateError, NoStateError
from ppo_and_friends.vector.states.restore import restored

PLAIN = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "FrozenLake-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "Blackjack-v1",
)
MUJOCO = (
    "Reacher-v5",
    "Pusher-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Swimmer-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
)


def actions(env: gymnasium.Env[Any, Any], count: int) -> list[Any]:
    generator, space = np.random.default_rng(7), env.action_space
    if isinstance(space, spaces.Box):
        return [generator.uniform(space.low, space.high).astype(space.dtype) for _ in range(count)]
    assert isinstance(space, spaces.Discrete)
    return generator.integers(space.n, size=count).tolist()


def play(env: gymnasium.Env[Any, Any], chosen: list[Any], over: bool = False) -> tuple[list[Any], bool]:
    """What steps gave, to the bit; whether the episode is over."""
    seen: list[Any] = []
    for action in chosen:
        if over:
            observation, *rest = env.reset()[0], 0.0, False, False
        else:
            observation, *rest, _ = env.step(action)
        over = bool(rest[1] or rest[2])
        seen.append((np.asarray(observation).tobytes(), *map(float, rest)))
    return seen, over


def check(settings: EnvironmentSettings, before: int = 25, after: int = 100) -> None:
    """Steps after a state was set in another environment, and in the same, are those that followed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (make_canonical_env(settings, training=True) for _ in range(2))
        one.reset(seed=5)
        other.reset(seed=9)
        chosen = actions(one, before + after)
        _, over = play(one, chosen[:before])
        play(other, chosen[:3])
        state = captured(one)
        followed, _ = play(one, chosen[before:], over)
        for env in (other, one):
            assert restored(state, env) is env
            assert captured(env) == state
            assert play(env, chosen[before:], over)[0] == followed
        one.close()
        other.close()


@pytest.mark.parametrize("name", PLAIN)
def test_environments_in_python(name: str) -> None:
    check(EnvironmentSettings(id=name))


@pytest.mark.parametrize("name", MUJOCO)
def test_mujoco(name: str) -> None:
    pytest.importorskip("mujoco")
    check(EnvironmentSettings(id=name))


@pytest.mark.parametrize(
    "atari",
    [
        AtariSettings(),
        AtariSettings(observation="ram", fire_on_reset=True),
        AtariSettings(observation="ram_bits", stack=2),
    ],
)
def test_atari_with_stacks_lives_and_no_ops(atari: AtariSettings) -> None:
    pytest.importorskip("ale_py")
    check(EnvironmentSettings(id="BreakoutNoFrameskip-v4", atari=atari, max_episode_steps=60), 70)


def test_sticky_actions_are_refused_since_the_emulator_keeps_the_last_to_itself() -> None:
    pytest.importorskip("ale_py")
    atari = AtariSettings(observation="ram", repeat_action_probability=0.25)
    env = make_canonical_env(EnvironmentSettings(id="BreakoutNoFrameskip-v4", atari=atari))
    with pytest.raises(NoStateError, match="repeat_action_probability must be 0"):
        captured(env)


def test_box2d_is_refused_by_name() -> None:
    pytest.importorskip("Box2D")
    env = make_canonical_env(EnvironmentSettings(id="LunarLander-v3"))
    env.reset(seed=1)
    with pytest.raises(NoStateError, match=r"env\.world \(Box2D\..*b2World, of Box2D\)"):
        captured(env)


class Way(enum.Enum):
    UP, DOWN = "up", "down"


class Spot(NamedTuple):
    x: int
    y: int


class Slotted:
    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


class Latecomer:
    """In no environment at first."""

    def __init__(self) -> None:
        self.lives = 3


class Thing:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.number, self.text, self.nothing = 0.1 + 0.2, "ä\ud800", None
        self.way, self.spot, self.kind = Way.UP, Spot(1, 2), Way
        self.array, self.words = np.arange(6.0).reshape(2, 3), np.array(["a", "bc"])
        self.view = self.array[1]
        self.objects = np.array([None, {"a": 1}], object)
        self.shared = self.again = [1, [2.5, np.float32(0.1)]]
        self.last = deque([1, 2], maxlen=2)
        self.generator, self.old = np.random.default_rng(3), np.random.RandomState(3)
        self.inner, self.all = Slotted(self), {3: {1, 2}, (1, "a"): frozenset({b"x"}), "c": 2j}
        self.extra: Any = None

    def change(self) -> None:
        self.number, self.text, self.nothing = float("inf"), "", [float("nan")]
        self.way, self.spot = Way.DOWN, Spot(3, 4)
        self.array += 0.5
        self.words = np.array(["xyz"])
        self.shared.append(self.view)
        self.again = [7]
        self.last.append(9)
        self.generator.normal(size=3)
        self.old.normal()
        self.inner.value = [self.inner, Slotted(2**200)]
        self.all[3].add(9)
        self.extra = {"new": Slotted(range(1, 9, 2))}
        del self.nothing


def test_objects_come_back_with_all_that_they_share() -> None:
    one, other = Thing(), Thing()
    other.generator.normal(size=7)
    one.change()
    state = captured(one)
    view = other.view
    assert restored(state, other) is other
    assert captured(other) == state
    assert other.view is view and other.shared[-1] is view, "memory is written in place"
    np.testing.assert_array_equal(view, [3.5, 4.5, 5.5])
    assert other.array.base is view.base
    assert other.again is not other.shared and other.again == [7]
    assert other.inner.value[0] is other.inner and other.inner.value[1].value == 2**200
    assert other.way is Way.DOWN and other.spot == Spot(3, 4) and not hasattr(other, "nothing")
    assert other.generator.normal() == one.generator.normal() and other.old.normal() == one.old.normal()
    # One that is as it was at first has shared what the other hasn't, and the reverse.
    fresh = Thing()
    restored(captured(fresh), other)
    assert other.shared is other.again and captured(other) == captured(Thing())


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (open, None),
        ((each for each in ()), "generator"),
        (memoryview(b""), "memoryview"),
        (np.zeros(1, "M8[s]"), "of the type datetime64"),
        (iter([1]), "list_iterator"),
    ],
)
def test_what_hides_its_state_is_refused_by_name(value: Any, what: str | None) -> None:
    thing = Thing()
    thing.extra = [0, {"a": value}]
    if what is None:
        captured(thing)  # a function is what it is
        return
    with pytest.raises(NoStateError, match=rf"env\.extra\[1\]\['a'\] \({what}"):
        captured(thing)


def test_a_constant_that_changed_is_named() -> None:
    one, other = Thing(), Thing()
    one.extra = np.sin
    state = captured(one)
    with pytest.raises(NoStateError, match=r"env\.extra was sin, and is NoneType"):
        restored(state, other)


def counter(by: int) -> Any:
    count = [0]

    def add() -> int:
        count[0] += by
        return count[0]

    return add


def test_what_functions_remember() -> None:
    one, other = Thing(), Thing()
    for thing in (one, other):
        add, inner = counter(2), Slotted(5)
        thing.extra = [add, add, inner.__init__, partial(max, [1]), Thing.reset, np.sin, thing.change]  # type: ignore[misc]
    assert [one.extra[0](), one.extra[1]()] == [2, 4]
    one.extra[2].__self__.value = 6
    one.extra[3].args[0].append(9)
    mine = other.extra[0]
    restored(captured(one), other)
    assert other.extra[0] is mine and mine() == 6
    assert other.extra[2].__self__.value == 6 and other.extra[3]() == 9
    assert other.extra[-1].__self__ is other and captured(one) != captured(other)


def test_classes_of_the_environments_package_may_come_up_later() -> None:
    """Objects that no new environment has, of a module that the environment has imported."""
    one, other = Thing(), Thing()
    one.extra = Latecomer()
    restored(captured(one), other)
    assert type(other.extra) is Latecomer and other.extra.lives == 3


def test_classes_are_those_that_the_environment_uses() -> None:
    """A state that names another class imports nothing."""
    state = captured(Slotted(1)).replace(b"Slotted", b"Stollen")
    with pytest.raises(NoStateError, match="Stollen, which a new environment doesn't use"):
        restored(state, Slotted(2))


def test_damage_is_noticed_or_changes_a_value() -> None:
    """Whatever a byte is changed to, there is no other error than these."""
    thing = Thing()
    thing.change()
    state, generator = captured(thing), np.random.default_rng(1)
    for _ in range(300):
        bad = bytearray(state)
        bad[int(generator.integers(len(bad)))] = int(generator.integers(256))
        with contextlib.suppress(BadStateError, NoStateError):
            restored(bytes(bad[: len(bad) - int(generator.integers(2))]), Thing())
