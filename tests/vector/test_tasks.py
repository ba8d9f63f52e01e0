"""Environments that are asked for something: attributes, reset options, arguments, by the episode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector import envpool
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import Task
from ppo_and_friends.vector.tasks import give_tasks
from tests.vector.toys import toy


class Machine:
    """Something with parts of its own."""

    def __init__(self) -> None:
        self.mass = np.array([1.0, 2.0])


class Asked(gymnasium.Env[Any, Any]):
    """Observes [gravity, first mass, second mass, level asked for, size, a random number]; 2 steps."""

    def __init__(self, size: int = 1) -> None:
        self.gravity, self.hard, self.size, self.machine = 10, False, size, Machine()
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float64)
        self.action_space = spaces.Discrete(2)

    @property
    def fixed(self) -> int:
        return 1

    def _observe(self) -> Any:
        return np.array([self.gravity, *self.machine.mass, self.level, self.size, self.chance])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert isinstance(self.hard, bool) and isinstance(self.size, int)
        self.level, self.t, self.chance = (options or {}).get("level", 0), 0, self.np_random.random()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._observe(), 0.0, self.t == 2, False, {}


class Old:
    """No gymnasium base class; its reset takes nothing."""

    def __init__(self) -> None:
        self.gravity = 10.0
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = spaces.Discrete(2)

    def reset(self) -> Any:
        return np.array([self.gravity])

    def step(self, action: Any) -> Any:
        return np.array([self.gravity]), 0.0, True, {}


TASKS = (
    Task(attributes={"gravity": 5.0, "hard": 1.0}),
    Task(scales={"machine.mass": 3.0}, options={"level": 7}),
    Task(attributes={"gravity": 4.0}, scales={"gravity": 0.5, "machine.mass": 2.0}, arguments={"size": 2}),
    Task(),
)
EXPECTED = [[5, 1, 2, 0, 1], [10, 3, 6, 7, 1], [2, 2, 4, 0, 2], [10, 1, 2, 0, 1]]
"""What the environment observes then: of earlier tasks nothing is left."""


def play(settings: EnvironmentSettings, layout: Layout, tasks: Any, episodes: int = 4) -> Any:
    """The first observations of each environment's episodes, [episodes, B, ...]."""
    env = make_vector_env(settings, layout)
    counts = np.zeros(layout.local, int)

    def task_of(row: int) -> Task:
        counts[row] += 1
        return tasks(layout.first + row, int(counts[row]) - 1)

    try:
        give_tasks(env, task_of, "Curriculum")
        found = [env.reset(20 + layout.first)["policy"].copy()]
        actions = np.zeros(layout.local, np.int64)
        while len(found) < episodes:
            step = env.step(actions)
            if step.episode_starts.any():
                found.append(step.observations["policy"].copy())
        assert (counts == episodes).all()
        return np.array(found)
    finally:
        env.close()


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_each_episode_is_what_was_asked_for(backend: str) -> None:
    seen = play(toy(Asked, backend), Layout(2, 0, 2), lambda _, number: TASKS[number])
    np.testing.assert_array_equal(seen[:, 0, :5], EXPECTED)
    np.testing.assert_array_equal(seen[:, 1, :5], EXPECTED)
    assert len(np.unique(seen[:, :, 5])) == 8  # made anew or not, random numbers go on


def test_rows_and_layouts_differ_in_nothing_else() -> None:
    def tasks(index: int, number: int) -> Task:
        return Task(attributes={"gravity": 10.0 * index + number}, arguments={"size": (index + number) % 2})

    whole = play(toy(Asked), Layout(3, 0, 3), tasks)
    assert whole[:, :, 0].tolist() == [[10.0 * i + n for i in range(3)] for n in range(4)]
    for first in range(3):
        np.testing.assert_array_equal(play(toy(Asked), Layout(3, first, 1), tasks)[:, 0], whole[:, first])
    np.testing.assert_array_equal(play(toy(Asked, "async"), Layout(3, 0, 3), tasks), whole)


def test_without_tasks_nothing_is_different() -> None:
    plain = make_vector_env(toy(Asked), Layout(1, 0, 1))
    first = plain.reset(20)["policy"][0].copy()
    starts = [
        step.observations["policy"][0].copy() for _ in range(7) if (step := plain.step([0])).episode_starts
    ]
    np.testing.assert_array_equal(
        play(toy(Asked), Layout(1, 0, 1), lambda *_: Task(), 3)[:, 0], [first, *starts]
    )


def test_adapted_environments_have_attributes_too() -> None:
    seen = play(toy(Old), Layout(1, 0, 1), lambda _, number: Task(attributes={"gravity": number}), 3)
    assert seen[:, 0, 0].tolist() == [0.0, 1.0, 2.0]


def test_mujoco_models_change() -> None:
    def first(task: Task) -> Any:
        settings = EnvironmentSettings(id="InvertedPendulum-v5", backend="gymnasium")
        env = make_vector_env(settings, Layout(1, 0, 1))
        give_tasks(env, lambda _: task, "Curriculum")
        env.reset(0)
        for _ in range(2):
            step = env.step(np.ones((1, 1), np.float32))
        env.close()
        return step.observations["policy"].copy()

    plain, heavy = first(Task()), first(Task(scales={"model.body_mass": 5.0}))
    light = first(Task(attributes={"model.opt.gravity": [0.0, 0.0, -1.0]}))
    assert len({each.tobytes() for each in (plain, heavy, light)}) == 3


@pytest.mark.parametrize(
    ("make", "task", "told"),
    [
        (Asked, Task(attributes={"gravty": 1.0}), "no attribute 'gravty'. Did you mean gravity"),
        (Asked, Task(scales={"machine.mas": 1.0}), "no attribute 'machine.mas'. Did you mean mass"),
        (Asked, Task(attributes={"fixed": 2}), "attribute fixed can't be set to 2"),
        (Asked, Task(attributes={"machine.mass": [1, 2, 3]}), "attribute machine.mass can't be set"),
        (Asked, Task(arguments={"sizes": 2}), "doesn't accept its arguments"),
        (Old, Task(options={"level": 1}), "reset takes no options (level)"),
    ],
)
def test_what_an_environment_does_not_have_is_refused(make: Any, task: Task, told: str) -> None:
    for backend in ("gymnasium", "async") if "gravty" in told else ("gymnasium",):
        with pytest.raises(UsageError) as caught:
            play(toy(make, backend), Layout(1, 0, 1), lambda *_: task)
        assert told in str(caught.value) and len(str(caught.value).splitlines()) <= 2


@pytest.mark.skipif(not envpool.installed(), reason="EnvPool has no wheel here")
def test_engines_that_can_not_are_named() -> None:
    env = make_vector_env(EnvironmentSettings(id="CartPole-v1"), Layout(1, 0, 1))
    with pytest.raises(UsageError, match=r"Curriculum .*the engine 'envpool' can't"):
        give_tasks(env, lambda _: Task(), "Curriculum")
    chosen = make_vector_env(EnvironmentSettings(id="CartPole-v1"), Layout(1, 0, 1), tasked=True)
    assert chosen.backend == "gymnasium" and "as friends want" in chosen.notes[0]
