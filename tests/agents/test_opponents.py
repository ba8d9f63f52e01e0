"""Tests of a policy against another one, or a random player."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends import evaluate, train
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.evaluate import evaluate as play
from ppo_and_friends.evaluation.opponents import WON, Match, RandomPolicy
from ppo_and_friends.settings.experiment import friend
from ppo_and_friends.vector.masks import KEY
from tests.agents.nim import nim
from tests.engine import Episodes, experiment
from tests.engine import train as train_on_ranks


class Best:
    """Plays Nim as well as one can."""

    def reset(self, seed: int | None, rows: Any = None) -> None:
        pass

    def act(self, observations: Any, deterministic: bool) -> Any:
        pile = observations["policy"].argmax(axis=1)
        return np.where(pile % 4, pile % 4 - 1, 0)


class TakesOne(Best):
    def act(self, observations: Any, deterministic: bool) -> Any:
        return np.zeros(len(observations["policy"]), np.int64)


def match(policy: Any, opponent: Any) -> Any:
    made = Match(("first", "second"), policy, opponent)
    return play(made, nim().environment, episodes=4, seed=10)


def test_returns_are_those_of_the_policy_which_takes_each_seat_in_turn() -> None:
    """Who begins with seven and plays well wins; so does the best against one who takes one each time."""
    evaluation = match(Best, Best)
    assert evaluation.returns.tolist() == [1.0, -1.0, 1.0, -1.0]
    assert [episode.info[WON] for episode in evaluation.episodes] == [1.0, 0.0, 1.0, 0.0]
    # 7: one is taken, six are left for the best, who leaves four.
    assert match(Best, TakesOne).returns.tolist() == [1.0] * 4
    assert match(TakesOne, Best).infos[WON] == 0.0


def test_a_random_player_keeps_to_what_is_legal_and_to_its_seed() -> None:
    player = RandomPolicy(spaces.Discrete(3, start=1))
    legal = np.array([[True, False, True], [False, True, False]])
    seen = {"policy": np.zeros((2, 1)), KEY: legal}

    def drawn() -> list[list[int]]:
        player.reset(5)
        return [player.act(seen, True).tolist() for _ in range(30)]

    first = drawn()
    assert {row[0] for row in first} == {1, 3} and {row[1] for row in first} == {2}
    assert drawn() == first
    with pytest.raises(UsageError, match="Discrete"):
        RandomPolicy(spaces.Box(0, 1, (2,)))


def test_a_trained_policy_against_others() -> None:
    policy = train(nim(num_timesteps=64), folder=None, verbosity=-1).policy()
    assert 0.0 <= evaluate(policy, 4, opponent="random").infos[WON] <= 1.0
    assert evaluate(policy, 2, opponent=policy, deterministic=False).infos[WON] in (0.0, 0.5, 1.0)


def test_a_single_agent_has_no_opponent() -> None:
    policy = train(experiment(Episodes, num_timesteps=64), folder=None, verbosity=-1).policy()
    with pytest.raises(UsageError, match="games of several agents that share a policy"):
        evaluate(policy, 1, opponent="random")


def test_evaluations_against_a_random_player() -> None:
    """Of four games some are won and some lost, or all are; against itself the mean would always be 0."""
    watching = friend("Evaluator", every=1, episodes=4, opponent="random")
    ((_, metrics),) = train_on_ranks(nim(friend("SelfPlay"), watching), 2)
    for each in metrics:
        assert each["Evaluator/info/won"] == pytest.approx((each["Evaluator/score"] + 1) / 2)
    with pytest.raises(UsageError, match="games of several agents that share a policy"):
        train_on_ranks(experiment(Episodes, (watching,)), 1)
