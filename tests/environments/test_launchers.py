"""Every launcher builds, and both its environments run and agree on their spaces."""

from __future__ import annotations

import dataclasses
import re
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.settings.registry import Launcher, all_launchers
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.codec import policy_space
from ppo_and_friends.vector.factory import make_policy_envs, make_vector_env
from ppo_and_friends.vector.spaces import encoded_space

OURS = [known for known in all_launchers() if known.build.__module__.startswith("ppo_and_friends.")]
WANTED = (
    "CartPole Pendulum Acrobot MountainCar MountainCarContinuous LunarLander LunarLanderContinuous "
    "BipedalWalker BipedalWalkerHardcore InvertedPendulum InvertedDoublePendulum Hopper Walker2d "
    "HalfCheetah Swimmer Ant Humanoid HumanoidStandup BreakoutPixels BreakoutRAM AssaultPixels AssaultRAM "
    "CartPolePositions PendulumPositions PendulumPrivileged TMaze RepeatPreviousEasy RepeatPreviousMedium "
    "AutoencodeEasy StatelessCartPole Taxi ManyActions CardMemory SimpleSpread SimpleSpreadCentral "
    "SimpleSpeakerListener SimpleTag Multiwalker ConnectFour LevelBasedForaging RWARE"
)


def test_all_are_there_easiest_first() -> None:
    assert [known.name for known in OURS] == WANTED.split()


@pytest.mark.parametrize("known", OURS, ids=lambda known: known.name)
def test_settings_fit_together(known: Launcher) -> None:
    experiment = known.experiment()
    ppo, num_envs = experiment.ppo, experiment.environment.num_envs
    assert experiment.reward_threshold is not None
    assert (known.build.__doc__ or "").strip()
    assert ppo.rollout_timesteps % num_envs == 0
    assert ppo.rollout_timesteps % ppo.minibatch_size == 0
    assert ppo.minibatch_size % num_envs == 0
    assert experiment.num_timesteps > 10 * ppo.rollout_timesteps
    assert dataclasses.asdict(experiment) == dataclasses.asdict(known.experiment())


@pytest.mark.parametrize("known", OURS, ids=lambda known: known.name)
def test_vector_and_canonical_environments_run_and_agree(known: Launcher) -> None:
    settings = known.experiment().environment
    if settings.api == "petting_zoo":
        run_several_agents(known)
        return
    canonical = make_canonical_env(settings)
    vector = make_vector_env(settings, Layout(total=4, first=2, local=2))
    try:
        seen = policy_space(canonical.observation_space, settings.critic_observations)
        assert vector.observation_space == encoded_space(seen)
        assert vector.action_space == canonical.action_space
        assert known.spaces == describe(vector.observation_space, vector.action_space)
        canonical.action_space.seed(1)
        canonical.reset(seed=1)
        vector.reset(1)
        for _ in range(20):
            actions = np.stack([canonical.action_space.sample() for _ in range(2)])
            step = vector.step(actions)
            assert step.observations["policy"].shape == (2, *vector.observation_space.shape)
            _, reward, terminated, truncated, _ = canonical.step(canonical.action_space.sample())
            assert np.isfinite(float(reward))
            if terminated or truncated:
                canonical.reset()
    finally:
        canonical.close()
        vector.close()


def package_of(known: Launcher) -> str:
    """The package that several agents' environment needs."""
    package = known.id.partition(".")[0]
    # An adapter of ours is named after the package that it needs.
    return known.id.rpartition(":")[2] if package == "ppo_and_friends" else package


def run_several_agents(known: Launcher) -> None:
    experiment = known.experiment()
    pytest.importorskip(package_of(known), reason="it is an extra, which isn't installed")
    teams, every = make_policy_envs(experiment.environment, experiment.agents, Layout(4, 2, 2))
    with closing(teams):
        if len(every) > 1:
            assert len(every) == len(set(experiment.agents.policies.values()))
            return
        (vector,) = every.values()
        assert known.spaces == describe(vector.observation_space, vector.action_space)
        vector.reset(1)
        vector.action_space.seed(1)
        for _ in range(20):
            actions = np.stack([vector.action_space.sample() for _ in range(vector.num_envs)])
            assert np.isfinite(vector.step(actions).rewards).all()


def describe(observations: spaces.Box, actions: Any) -> str:
    """The words that ``--list`` shows."""
    seen = "x".join(map(str, observations.shape))
    if observations.dtype == np.uint8:
        seen += " pixels" if len(observations.shape) == 3 else " bytes"
    size = actions.n if isinstance(actions, spaces.Discrete) else actions.shape[0]
    return f"{seen} -> {type(actions).__name__}({size})"


def test_names_are_fit_for_folders() -> None:
    assert all(re.fullmatch(r"\w+", known.name) for known in OURS)
