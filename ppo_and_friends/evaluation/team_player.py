"""Playing whole episodes of several agents that share a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppo_and_friends.common.nested import row_of
from ppo_and_friends.evaluation.player import Episode, Player, to_action
from ppo_and_friends.evaluation.rendering import window_closed
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.codec import BadObservationError, Encoder, policy_space
from ppo_and_friends.vector.parallel import agent_names, common_spaces
from ppo_and_friends.vector.ranges import usable
from ppo_and_friends.vector.team import RETURN, Team, team_return


class TeamPlayer(Player):
    """Plays single episodes of an environment with several agents, each of which is a row of the batch."""

    def _prepare(self, critic_keys: Sequence[str], action_masks: str) -> None:
        env: Any = self._env
        self._agents = agent_names(env, self._name)
        space, self._action_space = common_spaces(env, self._name)
        self._encode = Encoder(policy_space(space, critic_keys))
        self._batch = ObservationBatch(space, len(self._agents))

    def play(self, index: int, seed: int) -> Episode | None:
        """Play one episode; see `Player.play`.

        Returns:
            The result; its score is the mean of the returns of the agents that took part. Those of each agent
            and the team's are among its numbers.
        """
        env: Any = self._env
        team = Team(env, self._agents, lambda step: f"{self._name}, test episode {index}, step {step}", None)
        self._policy.reset(seed)
        self._write(team.reset(seed))
        returns, took_part, length = np.zeros(len(self._agents)), np.zeros(len(self._agents), bool), 0
        if self._recorder is not None:
            self._recorder.begin()
        self._show(index, 0, 0.0)
        while not team.over and length < self._max_steps:
            actions = self._policy.act({"policy": self._seen(team, index, length)}, self._deterministic)
            step = team.step(
                {
                    agent: to_action(row_of(actions, self._action_space, k), self._action_space)
                    for k, agent in enumerate(self._agents)
                }
            )
            length += 1
            returns += step.rewards
            took_part |= step.acted
            self._write(step.observations)
            appeared = step.present & ~step.acted
            if appeared.any():
                self._policy.reset(None, appeared)
            self._show(index, length, float(returns[took_part].mean()))
            if self._watched and window_closed():
                return None
        score = float(returns[took_part].mean())
        if self._recorder is not None:
            self._recorder.end(score)
        info = {f"{RETURN}/{self._agents[k]}": float(returns[k]) for k in np.flatnonzero(took_part)}
        return Episode(score, length, hit_step_limit=not team.over, info=info | team_return(returns))

    def _write(self, observations: dict[str, Any]) -> None:
        for k, agent in enumerate(self._agents):
            if agent in observations:
                self._batch.write(k, observations[agent])

    def _seen(self, team: Team, index: int, step: int) -> Any:
        """Encoded observations of all agents; those that are gone keep their last."""
        try:
            seen = self._encode(self._batch.value)
        except BadObservationError as error:
            raise self._fault(
                index, step, f"{self._agents[error.row]}, {error.key}", error.problem
            ) from error
        rows = ~usable(seen).reshape(len(seen), -1).all(axis=1) & team.present
        if rows.any():
            agent = self._agents[int(np.flatnonzero(rows)[0])]
            raise self._fault(
                index, step, f"{agent}, observation", "has a number that isn't finite in single precision"
            )
        return seen
