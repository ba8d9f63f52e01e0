from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.vector import envpool
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.factory import make_vector_env
from tests.vector.toys import Clock

ONE = Layout(1, 0, 1)
needs_envpool = pytest.mark.skipif(not envpool.installed(), reason="EnvPool has no wheel here")


def backend_of(**settings: Any) -> str:
    env = make_vector_env(EnvironmentSettings(**settings), ONE)
    env.close()
    return env.backend


@needs_envpool
def test_auto_takes_envpool_only_where_it_is_the_same() -> None:
    assert backend_of(id="CartPole-v1") == "envpool"
    assert backend_of(id="CartPole-v1", max_episode_steps=10) == "envpool"
    assert backend_of(id="BreakoutNoFrameskip-v4", atari=AtariSettings()) == "envpool"
    for different in (
        {"id": "CartPole-v0"},  # EnvPool has it, but it isn't known to agree
        {"id": "CartPole-v1", "action_repeat": 2},
        {"id": "CartPole-v1", "wrappers": ("gymnasium.wrappers:FlattenObservation",)},
        {"id": "CartPole-v1", "arguments": {"sutton_barto_reward": True}},
        {"id": "CartPole-v1", "factory": Clock},
        {"id": "FrozenLake-v1"},
        {"id": "BreakoutNoFrameskip-v4", "atari": AtariSettings(observation="ram")},
        {"id": "ALE/Breakout-v5", "atari": AtariSettings(repeat_action_probability=0.25)},
        {"id": "BreakoutNoFrameskip-v4", "atari": AtariSettings(fire_on_reset=True)},
        {"id": "BreakoutNoFrameskip-v4", "atari": AtariSettings(noop_max=0)},
    ):
        assert backend_of(**different) == "gymnasium", different


def test_old_versions_stay_old_versions() -> None:
    """Ant-v4 has 27 observations, Ant-v5 105."""
    env = make_vector_env(EnvironmentSettings(id="Ant-v4"), ONE)
    assert (env.backend, env.observation_space.shape) == ("gymnasium", (27,))
    env.close()


def test_without_envpool_gymnasium_takes_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envpool, "installed", lambda: False)
    env = make_vector_env(EnvironmentSettings(id="CartPole-v1"), ONE)
    assert env.backend == "gymnasium"
    assert len(env.notes) == 1 and "EnvPool is not installed" in env.notes[0]
    env.close()
    other = make_vector_env(EnvironmentSettings(id="FrozenLake-v1"), ONE)
    assert other.notes == []  # EnvPool would have made no difference
    other.close()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"id": "FrozenLake-v1", "backend": "envpool"}, "no FrozenLake-v1 that is known to agree"),
        ({"id": "CartPole-v1", "backend": "envpool", "action_repeat": 2}, "it repeats actions"),
        ({"id": "CartPole-v1", "backend": "envpool", "factory": Clock}, "created by a factory"),
        ({"id": "Pong-v4", "backend": "envpool", "atari": AtariSettings()}, "NoFrameskip-v4"),
        (
            {
                "id": "BreakoutNoFrameskip-v4",
                "backend": "envpool",
                "atari": AtariSettings(fire_on_reset=True),
            },
            "presses FIRE",
        ),
        (
            {"id": "BreakoutNoFrameskip-v4", "backend": "envpool", "atari": AtariSettings(noop_max=0)},
            "at least one no-op",
        ),
        (
            {"id": "ALE/Breakout-v5", "backend": "ale", "atari": AtariSettings(fire_on_reset=True)},
            "presses FIRE for one frame",
        ),
        ({"id": "CartPole-v1", "backend": "ale"}, "not an Atari game"),
        ({"id": "CartPole-v1", "backend": "ale", "atari": AtariSettings()}, "not an Atari game"),
    ],
)
def test_an_impossible_backend_is_refused_with_the_reason(settings: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        backend_of(**settings)


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envpool, "installed", lambda: False)
    with pytest.raises(UsageError, match="it is not installed"):
        backend_of(id="CartPole-v1", backend="envpool")


@needs_envpool
@pytest.mark.parametrize(("game", "games", "lives"), [("Breakout", 3, 16), ("Assault", 0, 2)])
def test_envpool_plays_the_very_same_atari(game: str, games: int, lives: int) -> None:
    """With a single possible no-op start nothing is random: every pixel, reward and flag agrees.

    Over whole games and the lives in them, of which training makes episodes: none starts anew.
    """
    envs = [_atari(game, "envpool"), _atari(game, "gymnasium")]
    np.testing.assert_array_equal(*[env.reset(0)["policy"] for env in envs])
    rng = np.random.default_rng(0)
    finished = terminated = 0
    for _ in range(650):
        action = rng.integers(0, 4, 1)
        mine, theirs = (env.step(action) for env in envs)
        for name in ("rewards", "true_rewards", "terminated", "truncated", "episode_starts", "finished"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        # A game's last step is cut off in the middle, and then they choose its picture differently.
        same = slice(0, 3 if mine.finished[0] else 4)
        np.testing.assert_array_equal(
            mine.observations["policy"][:, same], theirs.observations["policy"][:, same]
        )
        finished, terminated = finished + int(mine.finished[0]), terminated + int(mine.terminated[0])
    assert (finished, terminated) == (games, lives)


def test_ale_plays_the_very_same_atari() -> None:
    """Without no-op starts, of which it does one less: every pixel, those after a reset included."""
    envs = [_atari("Breakout", backend, noop_max=0) for backend in ("ale", "gymnasium")]
    np.testing.assert_array_equal(*[env.reset(0)["policy"] for env in envs])
    rng = np.random.default_rng(0)
    finished = terminated = 0
    for _ in range(200):
        action = rng.integers(0, 4, 1)
        mine, theirs = (env.step(action) for env in envs)
        np.testing.assert_array_equal(mine.observations["policy"], theirs.observations["policy"])
        for name in mine.__slots__:
            if name not in ("observations", "infos"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        finished, terminated = finished + int(mine.finished[0]), terminated + int(mine.terminated[0])
    assert (finished, terminated) == (1, 5)


def _atari(game: str, backend: str, noop_max: int = 1) -> CheckedVectorEnv:
    settings = EnvironmentSettings(
        id=f"{game}NoFrameskip-v4",
        backend=backend,  # type: ignore[arg-type]
        atari=AtariSettings(noop_max=noop_max),
    )
    return make_vector_env(settings, ONE)


def test_no_engine_greets_or_warns(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    for id, atari in (("LunarLander-v3", None), ("AssaultNoFrameskip-v4", AtariSettings())):
        for backend in ("auto", "gymnasium"):
            settings = EnvironmentSettings(id=id, backend=backend, atari=atari)  # type: ignore[arg-type]
            env = make_vector_env(settings, ONE)
            env.reset(0)
            env.close()
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn if w.category is not DeprecationWarning] == []
