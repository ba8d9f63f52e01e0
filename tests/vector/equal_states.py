"""Do EnvPool's environments do what Gymnasium's do, from equal states and with extreme actions?

``python tests/vector/equal_states.py [ID ...]``: puts Gymnasium's environment into the state that EnvPool's
observation shows, gives both the same actions, mostly at their bounds and held for a while, and prints the
largest differences of observations and rewards. Classic control is put into EnvPool's state before every
step; MuJoCo, whose solver remembers more than an observation shows, after a reset only. Box2D's terrain and
wind are random, so that only what doesn't depend on them can be compared: a walker on its first steps, and a
lander without engines until it touches ground.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.envpool import EnvPoolVectorEnv

Array = NDArray[Any]
Row = tuple[float, float, bool]
"""Largest difference of an observation's components, each in units of max(1, |component|); of the reward; and
whether the two disagree on an episode's end."""


@dataclass(frozen=True)
class Agreement:
    """How far apart the two were."""

    steps: int
    """Steps that were compared."""

    observation: float
    """Largest difference of a component, in units of max(1, its size)."""

    median: float
    """Median over the steps of the largest difference."""

    reward: float
    """Largest difference of a reward, in units of max(1, its size)."""

    ends: int
    """Steps after which only one of them had ended."""

    beyond: int
    """Steps with a difference of more than 1e-4."""


def _angle(cosine: Any, sine: Any) -> float:
    return float(np.arctan2(sine, cosine))


CLASSIC: dict[str, Callable[[Array], Array]] = {
    "CartPole-v1": lambda o: o,
    "Pendulum-v1": lambda o: np.array([_angle(o[0], o[1]), o[2]]),
    "Acrobot-v1": lambda o: np.array([_angle(o[0], o[1]), _angle(o[2], o[3]), o[4], o[5]]),
    "MountainCar-v0": lambda o: o,
    "MountainCarContinuous-v0": lambda o: o,
}
"""The state that an observation shows."""

HIDDEN = {
    "InvertedPendulum-v5": 0,
    "Hopper-v5": 1,
    "Walker2d-v5": 1,
    "HalfCheetah-v5": 1,
    "Swimmer-v5": 2,
    "Ant-v5": 2,
    "Humanoid-v5": 2,
    "HumanoidStandup-v5": 2,
    "InvertedDoublePendulum-v5": 0,
}
"""Coordinates of the place, which are left out of an observation and change nothing."""

BOX2D = {
    "BipedalWalker-v3": 14,
    "BipedalWalkerHardcore-v3": 14,
    "LunarLander-v3": 8,
    "LunarLanderContinuous-v3": 8,
}
"""Components that don't depend on random ground."""


def extreme_actions(space: spaces.Space[Any], rng: np.random.Generator) -> Iterator[Any]:
    """Actions without end: bounds, and now and then something between them, each held for up to 20 steps."""
    while True:
        if isinstance(space, spaces.Discrete):
            action: Any = np.int64(rng.integers(space.n))
        else:
            assert isinstance(space, spaces.Box)
            share = rng.choice([0.0, 1.0], space.shape) if rng.random() < 0.8 else rng.random(space.shape)
            action = (space.low + share * (space.high - space.low)).astype(np.float32)
        for _ in range(int(rng.integers(1, 20))):
            yield action


def apart(found: Any, expected: Any) -> float:
    """Largest difference, in units of max(1, |expected|)."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max())


def compare(id: str, steps: int, seed: int = 0, horizon: int = 40) -> Agreement:
    """Give both the same actions for a number of steps.

    Args:
        id: One of EnvPool's that `CLASSIC`, `HIDDEN` or `BOX2D` knows.
        steps: Steps to compare.
        seed: Of EnvPool's episodes and of the actions.
        horizon: Steps from a reset that are compared where the state is set after a reset only: contacts
            amplify the last bit.
    """
    settings = EnvironmentSettings(id=id)
    pool = EnvPoolVectorEnv(settings, 1, 1)
    rng = np.random.default_rng(seed)
    actions = extreme_actions(pool.action_space, rng)
    rows: list[Row] = []
    try:
        while len(rows) < steps:
            rows += _episode(id, pool, actions, int(rng.integers(2**30)), horizon)
    finally:
        pool.close()
    table = np.array(rows[:steps])
    return Agreement(
        steps=len(table),
        observation=float(table[:, 0].max()),
        median=float(np.median(table[:, 0])),
        reward=float(table[:, 1].max()),
        ends=int(table[:, 2].sum()),
        beyond=int((table[:, :2].max(axis=1) > 1e-4).sum()),
    )


def _episode(
    id: str, pool: EnvPoolVectorEnv, actions: Iterator[Any], seed: int, horizon: int
) -> Iterator[Row]:
    observation = pool.reset(seed)["policy"][0].copy()
    lander = id.startswith("LunarLander")
    gym = _walker_or_lander(id, observation) if id in BOX2D else _fresh(id)
    if id in HIDDEN:
        _set_mujoco(id, gym, observation)
    width = BOX2D.get(id, len(observation))
    for _ in range(500 if id in CLASSIC else horizon):
        if id in CLASSIC:
            gym.state = CLASSIC[id](observation.astype(np.float64))
        action = next(actions)
        if lander:
            action = np.zeros_like(action)  # its engines' sparks are random, and push
        theirs = pool.step(np.asarray(action)[None])
        expected, reward, terminated, _, _ = gym.step(action)
        if lander and (terminated or expected[6:].any()):
            break  # on ground, which is random
        observation = theirs.observations["policy"][0].copy()
        yield (
            apart(observation[:width], expected[:width]),
            apart(theirs.rewards[0], reward),
            bool(theirs.terminated[0]) != bool(terminated) and not theirs.truncated[0],
        )
        if theirs.finished[0] or terminated:
            break
    gym.close()


def _fresh(id: str) -> Any:
    gym = make_canonical_env(EnvironmentSettings(id=id)).unwrapped
    gym.reset(seed=0)
    return gym


def _set_mujoco(id: str, gym: Any, observation: Array) -> None:
    import mujoco

    hidden, model = HIDDEN[id], gym.model
    place = np.zeros(model.nq)
    if id == "InvertedDoublePendulum-v5":
        place[:] = [observation[0], *np.arctan2(observation[1:3], observation[3:5])]
        speed = observation[5:8]
    else:
        place[hidden:] = observation[: model.nq - hidden]
        speed = observation[model.nq - hidden : model.nq - hidden + model.nv]
    mujoco.mj_resetData(model, gym.data)
    gym.set_state(place, np.array(speed))


class _Push:
    """A generator of random numbers, of which the first, those of a push, are chosen."""

    def __init__(self, push: list[float], limit: float) -> None:
        self._push, self._limit = list(push), limit
        self._rng = np.random.default_rng(0)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        if self._push and size is None and high == self._limit and low == -self._limit:
            return self._push.pop(0)
        return self._rng.uniform(low, high, size=size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


def _walker_or_lander(id: str, observation: Array) -> Any:
    """An environment whose first observation is the given one.

    An episode starts with a random push, in which that observation is linear. Each try has a new
    environment, since these carry state over a reset.
    """
    limit, axes = (5.0, [2]) if id.startswith("BipedalWalker") else (1000.0, [2, 3])

    def pushed(push: Array) -> tuple[Any, Array]:
        gym = make_canonical_env(EnvironmentSettings(id=id)).unwrapped
        gym.np_random = _Push(list(push), limit)  # type: ignore[attr-defined]
        return gym, np.asarray(gym.reset()[0], np.float64)[axes]

    push = np.zeros(len(axes))
    for _ in range(4):
        base = pushed(push)[1]
        moved = [pushed(push + 0.5 * one)[1][k] for k, one in enumerate(np.eye(len(axes)))]
        push = push + 0.5 * (observation[axes] - base) / (np.array(moved) - base)
    return pushed(push)[0]


def main() -> None:
    known = {**CLASSIC, **HIDDEN, **BOX2D}
    print("| environment | steps | observation, median | largest | reward | ends | beyond 1e-4 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for id in sys.argv[1:] or known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one = compare(id, 5000 if id in CLASSIC else 400)
        print(
            f"| {id} | {one.steps:,} | {one.median:.0e} | {one.observation:.0e} | {one.reward:.0e} "
            f"| {one.ends} | {one.beyond} |",
            flush=True,
        )


if __name__ == "__main__":
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    main()
