"""Agents that act in turns: who waits isn't learned from, and sees the consequences in its next turn."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.ppo.estimators import generalized_advantages
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings
from ppo_and_friends.vector.factory import make_vector_env
from tests.agents.nim import Nim, nim
from tests.engine import on_ranks


def moves(*takes: int, draw: int | None = None) -> list[Any]:
    """Steps of one game, in which both agents' rows are given the same action."""
    settings = nim(draw=draw, num_envs=1).environment
    with closing(make_vector_env(settings, Layout(1, 0, 1), agents=AgentSettings())) as envs:
        first = envs.reset(1)["action_mask"].copy()
        steps = [envs.step(np.full(2, take - 1)) for take in takes]
        return [first, *((s.active.copy(), s.waiting, s.rewards, s.terminated, s.truncated) for s in steps)]


def test_one_acts_and_the_other_waits() -> None:
    mask, *steps = moves(3, 2, 2, 1)
    assert mask.tolist() == [[True] * 3, [True] * 3]  # nothing is forbidden to the one who waits
    rows = [[each.tolist() for each in step] for step in steps]
    assert rows[0] == [[True, False], [False, True], [0.0, 0.0], [False, False], [False, False]]
    assert rows[1] == [[False, True], [True, False], [0.0, 0.0], [False, False], [False, False]]
    # The first takes the last two, and wins while the other waits, which ends the game for both.
    assert rows[2] == [[True, False], [False, True], [1.0, -1.0], [True, True], [False, False]]
    assert rows[3] == [[False, False], [False, False], [0.0, 0.0], [False, False], [False, False]]  # a reset


def test_a_game_is_cut_off_for_the_one_who_waits_too() -> None:
    *_, last = moves(1, 1, draw=2)
    assert [each.tolist() for each in last] == [
        [False, True], [True, False], [0.0, 0.0], [False, False], [True, True],
    ]  # fmt: skip


def test_whose_turn_it_is_must_be_there() -> None:
    class Stranger(Nim):
        def _infos(self) -> Any:
            return {agent: {"active_agent": "third"} for agent in self.agents}

    settings = EnvironmentSettings(id="Nim", api="petting_zoo", factory=Stranger, num_envs=1)
    with (
        closing(make_vector_env(settings, Layout(1, 0, 1), agents=AgentSettings())) as envs,
        pytest.raises(EnvironmentFault, match="the turn of 'third', who isn't there"),
    ):
        envs.reset(1)


def test_time_stands_still_for_those_who_wait() -> None:
    """Random games with waiting steps between the turns, against the same games without them."""
    random = np.random.default_rng(0)
    for _ in range(50):
        turns, waits = 6, random.integers(0, 3, 6)  # waiting steps behind each turn
        rewards, values = random.normal(size=turns), random.normal(size=turns + 1)
        ends = random.random(turns) < 0.3  # in a waiting step if there is one
        terminated = ends & (random.random(turns) < 0.5)
        shape = {"gamma": 0.9, "gae_lambda": 0.8}
        rows: list[tuple[Any, ...]] = []
        plain: list[tuple[Any, ...]] = []
        for k in range(turns):
            parts = random.dirichlet(np.ones(waits[k] + 1)) * rewards[k]
            for place, part in enumerate(parts):
                last = place == waits[k]
                rows.append((part, terminated[k] and last, ends[k] and last, place == 0, place > 0, k))
            plain.append((rewards[k], terminated[k], ends[k], True, False, k))
            if ends[k]:  # the reset; its observation is the last one of the game before
                for each in (rows, plain):
                    each.append((0.0, False, False, False, False, None))
        final = random.normal(size=turns)

        def advantages(steps: list[tuple[Any, ...]]) -> list[float]:
            seen = []
            for place, step in enumerate(steps):
                if step[5] is None:
                    seen.append(final[steps[place - 1][5]])  # noqa: B023
                else:
                    seen.append(values[step[5]] if step[3] else 1e9)  # noqa: B023
            one = [np.array([step[i] for step in steps])[:, None] for i in range(5)]
            reward, over, cut, valid, waiting = one
            found = generalized_advantages(
                reward, np.array([*seen, values[-1]])[:, None], over, cut, valid, waiting=waiting, **shape  # noqa: B023
            )  # fmt: skip
            return [float(a[0]) for a, v in zip(found, valid[:, 0], strict=True) if v]

        np.testing.assert_allclose(advantages(rows), advantages(plain), atol=1e-9)
        one = [np.array([step[i] for step in plain])[:, None] for i in range(4)]
        seen = [final[plain[p - 1][5]] if s[5] is None else values[s[5]] for p, s in enumerate(plain)]
        usual = generalized_advantages(one[0], np.array([*seen, values[-1]])[:, None], *one[1:], **shape)
        np.testing.assert_allclose(advantages(plain), usual[one[3]], atol=1e-9)


def test_the_last_turn_of_a_rollout_is_not_learned_from() -> None:
    def work(trainer: Any, _: Any) -> Any:
        rollout = trainer.collect()
        return rollout.active.numpy().copy(), rollout.played.numpy().copy(), rollout.waiting.numpy().copy()

    ((active, played, waiting),) = on_ranks(nim(), 1, work)
    acted = played & ~waiting
    assert (acted.sum(axis=0) - active.sum(axis=0) == 1).all()
    for row in range(active.shape[1]):
        last = np.flatnonzero(acted[:, row])[-1]
        assert not active[last, row] and (active[:last, row] == acted[:last, row]).all()


def test_scores_count_what_happens_to_those_who_wait() -> None:
    """Who doesn't take the last loses 1 in a step in which it waits: both returns add up to 0."""

    def work(trainer: Any, _: Any) -> Any:
        return trainer.train_iteration()

    (metrics,) = on_ranks(nim(), 1, work)
    assert metrics["episode_return_min"] == -1.0 and metrics["episode_return_max"] == 1.0
    assert abs(metrics["episode_return_mean"]) < 1e-9
    assert metrics["info/episode_return/team"] == 0.0


def test_pettingzoo_s_games_by_its_own_conversion() -> None:
    pytest.importorskip("pettingzoo", reason="the extra [petting] is not installed")
    for id in ("pettingzoo.classic.connect_four_v3", "pettingzoo.classic.connect_four_v3:raw_env"):
        settings = EnvironmentSettings(id=id, api="petting_zoo", num_envs=1)
        with closing(make_vector_env(settings, Layout(1, 0, 1), agents=AgentSettings())) as envs:
            assert envs.reset(1)["policy"].shape == (2, 6 * 7 * 2)
            steps = [envs.step(np.full(2, column)) for column in (3, 4, 3, 4, 3, 4, 3)]  # four in a column
        assert [step.active.tolist() for step in steps[:2]] == [[True, False], [False, True]]
        assert steps[-1].rewards.tolist() == [1.0, -1.0] and steps[-1].terminated.all()
