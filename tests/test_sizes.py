"""What is said about sizes that can't be had, and what decides on devices and threads."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.runs import build as build_module
from ppo_and_friends.runs.sizes import has_convolutions, size_notes
from ppo_and_friends.settings.experiment import Experiment, FriendSpec, NetworkSettings, friend
from ppo_and_friends.settings.registry import all_launchers, resolve
from tests.friends.runs import build, drift, experiment


def notes(num_envs: int = 8, memory: Any = None, **ppo: Any) -> list[str]:
    settings = {"rollout_timesteps": 64, "minibatch_size": 16} | ppo
    chosen = experiment(ppo=settings, network={"memory": memory})
    trainer = build(replace(chosen, environment=replace(chosen.environment, num_envs=num_envs)))
    with closing(trainer.collector.envs):
        return size_notes(trainer)


def test_sizes_that_are_met_are_not_mentioned() -> None:
    assert notes() == []
    assert notes(minibatch_size=1000) == []  # one minibatch is the whole rollout
    assert notes(num_envs=9, rollout_timesteps=66, minibatch_size=15) == []  # 63 and 15.75


def test_a_larger_minibatch_is_announced() -> None:
    (note,) = notes(minibatch_size=4)
    assert note == (
        "A minibatch has 8 timesteps, not 4 (ppo.minibatch_size): it has a step of each of 8 environments."
    )
    (note,) = notes(memory="gru", sequence_length=4)
    assert "has 32 timesteps, not 16" in note and "4 consecutive steps of each of 8 environments" in note


def test_a_rollout_of_another_length_is_announced() -> None:
    (note,) = notes(num_envs=40, minibatch_size=40)
    assert note == "A rollout has 80 timesteps, not 64 (ppo.rollout_timesteps): 2 of each of 40 environments."


@pytest.mark.parametrize("name", [known.name for known in all_launchers()])
def test_launchers_say_the_sizes_that_they_have(name: str) -> None:
    chosen = resolve(name)
    envs, ppo = chosen.environment.num_envs, chosen.ppo
    assert ppo.rollout_timesteps % envs == 0
    assert ppo.rollout_timesteps % ppo.minibatch_size == 0
    assert ppo.minibatch_size >= envs * (ppo.sequence_length or 1)


def image_run(friends: tuple[FriendSpec, ...], **network: Any) -> Experiment:
    chosen = experiment(friends, drift(spaces.Discrete(2), image=True))
    return replace(chosen, network=NetworkSettings(actor_hidden=(8,), critic_hidden=(8,), **network))


def split() -> Experiment:
    from tests.friends.runs import Drift

    class Both(Drift):
        def __init__(self) -> None:
            super().__init__(spaces.Discrete(2), image=True)
            place = spaces.Box(-np.inf, np.inf, (3,))
            self.observation_space = spaces.Dict({"camera": self.observation_space, "place": place})

        def _observe(self) -> Any:
            return {"camera": super()._observe(), "place": self.place.astype(np.float32)}

    return experiment((friend("SplitObservations", exteroceptive="camera"),), Both)


@pytest.mark.parametrize(
    ("make", "convolutions"),
    [
        (lambda: image_run(()), True),
        (lambda: image_run((), encoder="mlp"), False),
        (lambda: image_run((friend("RND"),), encoder="mlp"), True),
        (lambda: image_run((friend("ICM"),), encoder="mlp"), True),
        (split, True),
        (lambda: experiment((friend("RND"),)), False),
    ],
)
def test_devices_and_threads_go_by_convolutions(
    make: Any, convolutions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    choose = build_module.choose_device

    def record(name: str, communicator: Any, *, convolutions: bool) -> Any:
        asked.append(convolutions)
        return choose("cpu", communicator, convolutions=convolutions)

    monkeypatch.setattr(build_module, "choose_device", record)
    trainer = build(make())
    with closing(trainer.collector.envs):
        assert asked == [convolutions]
        assert has_convolutions(trainer.agent) is convolutions
