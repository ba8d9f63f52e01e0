from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.parallel import spaces_and_agents
from ppo_and_friends.vector.wrappers import LIFE_LOST
from tests.vector.toys import Clock, toy


def make(**settings: Any) -> gymnasium.Env[Any, Any]:
    return make_canonical_env(EnvironmentSettings(**settings))


class Negated(gymnasium.RewardWrapper[Any, Any]):
    def reward(self, reward: Any) -> Any:
        return -reward


def not_a_wrapper(env: Any) -> int:
    return 3


def test_unknown_ids_name_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown environment 'CartPool-v1'. Nearest: CartPole"):
        make(id="CartPool-v1")
    with pytest.raises(UsageError, match="LunarLander-v3"):
        make(id="LunarLander-v2")  # deprecated: refused by Gymnasium, never replaced silently


@pytest.mark.parametrize(
    ("argument", "value", "instead"),
    [
        ("obs_type", "ram", "observation=ram"),
        ("obs_type", "grayscale", "observation=pixels"),
        ("frameskip", 4, "frame_skip=4"),
        ("repeat_action_probability", 0.25, "repeat_action_probability=0.25"),
    ],
)
def test_arguments_that_a_games_preprocessing_has_settings_for(
    argument: str, value: Any, instead: str
) -> None:
    pytest.importorskip("ale_py")
    settings = {"id": "BreakoutNoFrameskip-v4", "arguments": {argument: value}}
    with pytest.raises(UsageError, match=f"{argument}={value!r}.*\n.*--set environment.atari.{instead}"):
        make(**settings, atari=AtariSettings())


def test_a_missing_dependency_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(**_: Any) -> Any:
        raise gymnasium.error.DependencyNotInstalled('run `pip install "gymnasium[cheese]"`')

    gymnasium.register("Cheese-v0", entry_point=needs)
    try:
        with pytest.raises(UsageError, match=r"Cheese-v0 needs .*gymnasium\[cheese\]"):
            make(id="Cheese-v0")
    finally:
        del gymnasium.registry["Cheese-v0"]
    with pytest.raises(UsageError, match="can't import no_such_module"):
        make(id="no_such_module:Cheese-v0")


def test_wrong_arguments_and_constructors_that_raise() -> None:
    with pytest.raises(UsageError, match="CartPole-v1 doesn't accept its arguments"):
        make(id="CartPole-v1", arguments={"colour": "red"})
    gymnasium.register("Raises-v0", entry_point=_raises)
    try:
        with pytest.raises(EnvironmentFault, match="Raises-v0 can't be created: ValueError: no mountain"):
            make(id="Raises-v0")
    finally:
        del gymnasium.registry["Raises-v0"]


def _raises(**_: Any) -> Any:
    raise ValueError("no mountain")


def test_arguments_reach_the_environment() -> None:
    env = make(id="FrozenLake-v1", arguments={"is_slippery": False, "map_name": "8x8"})
    assert env.observation_space == spaces.Discrete(64)


def test_action_repeat_adds_rewards_and_stops_at_the_end() -> None:
    env = make_canonical_env(toy(lambda: Clock(length=5), action_repeat=3))
    env.reset(seed=0)
    assert env.step(0)[1:4] == (1.0 + 2.0 + 3.0, False, False)
    assert env.step(0)[1:4] == (4.0 + 5.0, True, False)


def test_the_time_limit_counts_agent_steps() -> None:
    env = make(id="CartPole-v1", max_episode_steps=3, action_repeat=2)
    env.reset(seed=0)
    assert [env.step(t % 2)[3] for t in range(3)] == [False, False, True]
    longer = make(id="MountainCar-v0", max_episode_steps=250)  # its own limit is 200
    longer.reset(seed=0)
    assert [longer.step(1)[3] for _ in range(250)].index(True) == 249


def test_wrappers_by_name() -> None:
    env = make_canonical_env(toy(Clock, wrappers=("tests.vector.test_canonical:Negated",)))
    env.reset(seed=0)
    assert env.step(0)[1] == -1.0
    for name, message in [
        ("Negated", "must be written as module:name"),
        ("no_such_module:Wrapper", "No module named"),
        ("gymnasium:NoSuchWrapper", "has no 'NoSuchWrapper'"),
        ("tests.vector.test_canonical:not_a_wrapper", "of type int, which is not an environment"),
    ]:
        with pytest.raises(UsageError, match=message):
            make_canonical_env(toy(Clock, wrappers=(name,)))
    with pytest.raises(UsageError, match="of type dict, which is not an environment"):
        make_canonical_env(toy(dict))


@pytest.mark.parametrize("observation", ["pixels", "ram", "ram_bits"])
def test_canonical_atari_plays_whole_games_for_true_rewards(observation: Any) -> None:
    settings = EnvironmentSettings(
        id="AssaultNoFrameskip-v4", atari=AtariSettings(observation=observation, life_loss_ends_episode=True)
    )
    env = make_canonical_env(settings)
    observed, info = env.reset(seed=4)
    assert env.observation_space.contains(observed)
    lives, total, terminated = {info["lives"]}, [], False
    rng = np.random.default_rng(0)
    while not terminated:
        observed, reward, terminated, truncated, info = env.step(int(rng.integers(7)))
        lives.add(info["lives"])
        total.append(reward)
        assert not truncated and LIFE_LOST not in info
    assert len(lives) >= 4 and max(total) > 1.0  # several lives, and hits worth 21


def test_no_op_starts_vary_and_frame_skip_counts_frames() -> None:
    settings = EnvironmentSettings(id="BreakoutNoFrameskip-v4", atari=AtariSettings(observation="ram"))
    env = make_canonical_env(settings)
    ale = env.unwrapped.ale  # type: ignore[attr-defined]
    starts = set()
    for seed in range(6):
        env.reset(seed=seed)
        starts.add(ale.getEpisodeFrameNumber())
        assert 1 <= ale.getEpisodeFrameNumber() <= 30
    assert len(starts) > 2
    before = ale.getEpisodeFrameNumber()
    env.step(1)
    assert ale.getEpisodeFrameNumber() == before + 4


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("game", ["Assault", "Breakout"])
def test_bits_are_those_of_the_emulators_ram(game: str, stack: int) -> None:
    """Over lost lives and new games, oldest state first; a new game fills the stack with its first state."""
    atari = AtariSettings(observation="ram_bits", stack=stack, fire_on_reset=game == "Breakout")
    env = make(id=f"{game}NoFrameskip-v4", atari=atari)
    ale = env.unwrapped.ale  # type: ignore[attr-defined]
    assert env.observation_space == spaces.MultiBinary(1024 * stack)
    rng, over, games = np.random.default_rng(0), True, 0
    for seed in range(1500):
        if over:
            observed, over, games = env.reset(seed=seed)[0], False, games + 1
            states = [ale.getRAM()] * stack
        else:
            observed, _, terminated, truncated, _ = env.step(int(rng.integers(4)))
            over = terminated or truncated
            states = [*states[1:], ale.getRAM()]
        assert env.observation_space.contains(observed)
        np.testing.assert_array_equal(observed, np.unpackbits(np.concatenate(states)))
    assert games > 1


def test_fire_on_reset() -> None:
    settings = EnvironmentSettings(
        id="BreakoutNoFrameskip-v4", atari=AtariSettings(observation="ram", fire_on_reset=True, noop_max=0)
    )
    fired = make_canonical_env(settings)
    fired.reset(seed=0)
    by_hand = make_canonical_env(
        EnvironmentSettings(id="BreakoutNoFrameskip-v4", atari=AtariSettings(observation="ram", noop_max=0))
    )
    by_hand.reset(seed=0)
    expected = by_hand.step(1)[0]
    np.testing.assert_array_equal(fired.step(0)[0][384:], by_hand.step(0)[0][384:])
    assert expected.shape == (512,)


def test_mujoco_writes_no_log_where_a_run_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_canonical_env(EnvironmentSettings(id="HalfCheetah-v5")).close()
    assert list(tmp_path.iterdir()) == []


def test_an_environment_whose_close_raises_can_be_looked_at() -> None:
    class Stuck(Clock):
        def close(self) -> None:
            raise RuntimeError("can't let go")

    settings = toy(Stuck)
    assert spaces_and_agents(settings)[0] == Clock().observation_space
