"""Numbers that environments report at an episode's end, on their way to where they are looked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.common.infos import means, numbers_of
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.episodes import info_means
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import VectorEnv, VectorStep
from tests.command_line import read_json, run, toy
from tests.toys import FOLDER

INFO = {
    "is_success": True, "count": np.int64(3), "x": np.float32(0.5), "y": np.array([2.5]), "z": np.array(-1.0),
    "place": {"x": 1, "deeper": {"still": 2}}, "nan": math.nan, "infinite": np.inf, "text": "1",
    "list": [1.0], "many": np.zeros(2), "none": None, 5: 5.0, "TimeLimit.truncated": True,
    "ppo_and_friends.life_lost": True,
    "episode": {"r": 1.0, "l": 2},
}  # fmt: skip


def test_numbers_and_nothing_else() -> None:
    assert numbers_of(INFO) == {"is_success": 1, "count": 3, "x": 0.5, "y": 2.5, "z": -1, "place/x": 1}
    assert numbers_of(None) == numbers_of([1.0]) == {}


def test_means_are_of_those_who_reported() -> None:
    assert means([{"a": 1.0}, {"a": 3.0, "b": 5.0}, {}]) == {"a": 2.0, "b": 5.0}
    values = [{"a": value} for value in (1e16, 1.0, -1e16, 1.0)]
    assert means(values) == means(values[::-1]) == {"a": 0.5}


def test_ranks_that_know_other_names() -> None:
    """Three episodes reported ``b``, on two ranks; the third rank had no episode."""
    known: list[list[dict[str, float]]] = [[{"a": 1.0, "b": 2.0}, {"b": 4.0}], [{"b": 9.0}], []]

    def program(communicator: Communicator) -> Any:
        infos = known[communicator.rank]
        return info_means(infos, communicator, communicator.any(bool(infos)))

    assert run_threaded(3, program) == [{"info/a": 1.0, "info/b": 5.0}] * 3


class Reports(gymnasium.Env[Any, Any]):
    """Ends after ``length`` steps, odd lengths in success; reports a number in every step."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.t = 0
        self.length = 2

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.length = 2 + seed % 2
        self.t = 0
        return np.zeros(1, np.float32), {"is_success": 77.0}

    def step(self, action: Any) -> Any:
        self.t += 1
        info: dict[str, Any] = {"t": self.t}
        if self.t >= self.length:
            info |= {"is_success": self.length == 3, "only_odd" if self.length == 3 else "only_even": 1.0}
        return np.zeros(1, np.float32), 1.0, self.t >= self.length, False, info


def make_reports(backend: str) -> VectorEnv:
    settings = EnvironmentSettings(id="tests.test_infos:Reports", num_envs=2, backend=backend)  # type: ignore[arg-type]
    return make_vector_env(settings, Layout(2, 0, 2), 1)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_backends_hand_them_on_where_an_episode_ends(backend: str) -> None:
    envs = make_reports(backend)
    try:
        envs.reset(10)  # lengths 2 and 3
        infos = [dict(envs.step(np.zeros(2, np.int64)).infos) for _ in range(4)]
    finally:
        envs.close()
    even = {0: {"t": 2.0, "is_success": 0.0, "only_even": 1.0}}
    odd = {1: {"t": 3.0, "is_success": 1.0, "only_odd": 1.0}}
    # Environment 0 is reset in the third step.
    assert infos == [{}, even, odd, {}]


def test_an_engine_that_reports_nothing() -> None:
    envs = make_vector_env(EnvironmentSettings(id="CartPole-v1", num_envs=2), Layout(2, 0, 2), 1)
    try:
        envs.reset(1)
        assert [dict(envs.step(np.zeros(2, np.int64)).infos) for _ in range(30)] == [{}] * 30
    finally:
        envs.close()


class Success(Friend):
    """A friend that uses them, in the two places where it gets them."""

    only_watches = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def observe(self, step: VectorStep) -> None:
        self.seen += sum(info["is_success"] == 1.0 for info in step.infos.values())

    def after_rollout(self, rollout: Rollout) -> None:
        assert self.seen == sum(info["is_success"] == 1.0 for info in rollout.infos)

    def metrics(self) -> dict[str, float]:
        seen, self.seen = self.seen, 0
        return {"successes": float(seen)}


def test_from_the_environment_to_the_record(tmp_path: Path) -> None:
    """The toy moves to either side and reports the place in a dictionary, and whether it is right of 0."""
    watcher = ("--with=tests.test_infos:Success", "--eval_every=200", "--eval_episodes=3")
    arguments = [word for word in toy(tmp_path, *watcher, timesteps=640) if word != "--no_tensorboard"]
    done = run(*arguments)
    assert done.status == 0, done.err
    _, rows = read_rows(tmp_path / FOLDER / "progress.csv")
    ended = 0
    for row in rows:
        if row["episodes"] == "0":
            assert row["info/is_success"] == row["info/place/x"] == ""
            continue
        episodes, successes = float(row["episodes"]), float(row["Success/successes"])
        ended += 1
        assert float(row["info/is_success"]) == pytest.approx(successes / episodes)
        assert -3 <= float(row["info/place/x"]) <= 3
        assert (row["Evaluator/info/is_success"] == "") == (row["Evaluator/score"] == "")
    assert ended >= 3 and any(row["Evaluator/score"] for row in rows)
    assert "  success " in done.out

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / FOLDER / "tensorboard"))
    events.Reload()
    assert {"info/is_success", "info/place/x", "Evaluator/info/is_success"} <= set(events.Tags()["scalars"])

    done = run(*arguments, "--num_test_runs=30")
    assert done.status == 0, done.err
    scores = read_json(tmp_path / FOLDER / "test_scores.json")
    successes = [episode["info"]["is_success"] for episode in scores["episodes"]]
    assert set(successes) <= {0.0, 1.0} and len(successes) == 30
    assert scores["infos"]["is_success"] == pytest.approx(sum(successes) / 30)
    assert "mean is_success at the end of an episode: " in done.out
    assert len(done.out.splitlines()) < 20 and "all 30" in done.out  # no row for each of so many
