"""Environments with rules of their own are taken as they are meant, and it is said what was adapted."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.vector.adapter import Adapted, adaptations, conform
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.factory import make_vector_env
from tests.vector import odd
from tests.vector.toys import Clock, toy

BACKENDS = pytest.mark.parametrize("backend", ["gymnasium", "async"])


def two(kind: Any, backend: str) -> CheckedVectorEnv:
    """Environments 3 and 4 of 9."""
    return make_vector_env(toy(kind, backend), Layout(total=9, first=3, local=2))


def told(env: CheckedVectorEnv) -> str:
    return " ".join(env.new_notices())


@BACKENDS
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (odd.Plain, ["Plain isn't derived from gymnasium.Env"]),
        (odd.Old, ["reset takes no seed", "without info", "four values"]),
        (odd.OldLimit, ["four values"]),
        (
            odd.Arrays,
            ["the reward is a ndarray[1]", "info is None", "info is a list", "of an episode is a nd"],
        ),
        (odd.Late, ["observation_space is defined by reset only"]),
    ],
)
def test_what_is_understood_without_doubt(kind: Any, said: list[str], backend: str) -> None:
    """Three steps rewarded with 1, 2, 3, then a reset row; seeds 50 and 51."""
    with closing(two(kind, backend)) as env:
        np.testing.assert_array_equal(env.reset(50)["policy"], [[50, 0], [51, 0]])
        for t, over in ((1, False), (2, False), (3, True)):
            step = env.step(np.zeros(2, np.int64))
            np.testing.assert_array_equal(step.observations["policy"], [[50, t], [51, t]])
            np.testing.assert_array_equal(step.rewards, [t, t])
            limit = kind is odd.OldLimit
            np.testing.assert_array_equal(step.terminated, [over and not limit] * 2)
            np.testing.assert_array_equal(step.truncated, [over and limit] * 2)
        step = env.step(np.zeros(2, np.int64))
        np.testing.assert_array_equal(step.observations["policy"], [[50, 0], [51, 0]])
        np.testing.assert_array_equal(step.rewards, [0, 0])
        (notice,) = env.new_notices()
        assert all(each in notice for each in said), notice
        assert env.new_notices() == []  # once


def test_an_environment_without_a_seed_argument_is_seeded_all_the_same() -> None:
    env = conform(odd.ModernOld(), "odd")
    starts = [env.reset(seed=seed)[0][0] for seed in (1, 2, 1)]
    assert starts[0] == starts[2] != starts[1]


def test_what_keeps_the_rules_is_left_alone() -> None:
    own = gymnasium.make("CartPole-v1").unwrapped
    assert conform(own, "CartPole") is own
    env = make_canonical_env(toy(Clock))
    assert isinstance(env, Adapted) and adaptations(env) == []
    assert conform(env, "again") is env
    env.reset(seed=1)
    result = env.env.step(0)
    assert env.step(0) is not result and adaptations(env) == []


def test_registered_environments_are_adapted_below_gymnasiums_wrappers() -> None:
    """Gymnasium itself refuses them: they aren't of its class, and TimeLimit wants five values."""
    gymnasium.register("Odd-v0", entry_point="tests.vector.odd:Old", max_episode_steps=2)
    try:
        env = make_canonical_env(toy(None).__class__(id="Odd-v0"))
        env.reset(seed=1)
        assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, True), (True, True)]
    finally:
        del gymnasium.registry["Odd-v0"]


def test_spaces_of_the_old_package() -> None:
    env = make_canonical_env(toy(odd.OldSpaces))
    assert env.action_space == spaces.Discrete(3)
    assert isinstance(env.observation_space, spaces.Dict)
    assert list(env.observation_space) == ["b", "a"]
    assert env.observation_space["a"] == spaces.Discrete(4)
    with pytest.raises(
        UsageError, match=r"action_space is a tests.vector.odd.Graph, .* use gymnasium.spaces"
    ):
        make_canonical_env(toy(odd.GraphSpace))


@BACKENDS
def test_whole_numbers_as_floats(backend: str) -> None:
    with closing(two(odd.Whole, backend)) as env:
        row = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
        np.testing.assert_array_equal(env.reset(1)["policy"], [row, row])
        assert "whole numbers as float64, in a space of int64" in told(env)


def test_a_shared_array_is_copied_at_once() -> None:
    with closing(two(odd.Shared, "gymnasium")) as env:
        np.testing.assert_array_equal(env.reset(50)["policy"], [[50, 0], [51, 0]])
        np.testing.assert_array_equal(
            env.step(np.zeros(2, np.int64)).observations["policy"], [[50, 1], [51, 1]]
        )


@BACKENDS
def test_prints_are_counted_and_other_keys_mean_nothing(backend: str, capfd: Any) -> None:
    with closing(two(odd.Chatty, backend)) as env:
        env.reset(1)
        for _ in range(2):
            assert not env.step(np.zeros(2, np.int64)).terminated.any()
        assert "printed 4 lines, beginning with 'step 0'" in told(env)
    assert capfd.readouterr().out == ""


def test_a_debugger_may_print(capsys: Any) -> None:
    from ppo_and_friends.vector.output import Output

    speak: dict[str, Any] = {"__name__": "pdb"}
    exec("import sys\ndef speak(): sys.stdout.write('(Pdb) ')", speak)
    with Output() as output:
        speak["speak"]()
        print("noise")
    print("after")
    assert capsys.readouterr().out == "(Pdb) after\n" and output.lines == 1


@BACKENDS
@pytest.mark.parametrize("kind", [odd.Unpicklable, odd.BadClose])
def test_infos_and_close_may_be_anything(kind: Any, backend: str) -> None:
    with closing(two(kind, backend)) as env:
        env.reset(1)
        for _ in range(5):
            env.step(np.zeros(2, np.int64))


@BACKENDS
def test_parts_that_cant_be_encoded_are_left_out(backend: str) -> None:
    with closing(two(odd.Texts, backend)) as env:
        assert env.observation_space.shape == (2,)
        np.testing.assert_array_equal(env.reset(50)["policy"], [[50, 0], [51, 0]])
        assert 'doesn\'t see observation["mission"] (Text)' in told(env)


@BACKENDS
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (odd.Exits, ["failed: SystemExit: no licence", "odd.py:", 'raise SystemExit("no licence")']),
        (odd.Asserts, ["failed: AssertionError\n", "assert self.observation_space is None"]),
    ],
)
def test_a_constructor_that_fails_shows_its_last_lines(kind: Any, said: list[str], backend: str) -> None:
    with pytest.raises(EnvironmentFault) as raised:
        two(kind, backend)
    assert all(each in str(raised.value) for each in said), raised.value
    assert "Traceback" in raised.value.traceback and "Traceback" not in str(raised.value)
