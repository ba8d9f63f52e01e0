"""Playing whole episodes of several agents, with the policy that they share or one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.common.nested import row_of
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.company import Company
from ppo_and_friends.evaluation.opponents import Match, won
from ppo_and_friends.evaluation.player import Episode, Player, Policy, to_action
from ppo_and_friends.evaluation.rendering import window_closed
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.codec import BadObservationError, Encoder, policy_space
from ppo_and_friends.vector.masks import KEY
from ppo_and_friends.vector.parallel import agent_names, common_spaces
from ppo_and_friends.vector.protocol import PRESENT
from ppo_and_friends.vector.ranges import usable
from ppo_and_friends.vector.team import RETURN, Team, team_return
from ppo_and_friends.vector.team_masks import TeamMasks

Array = NDArray[Any]


class _Seats:
    """The agents of a policy: what they see, and what they do."""

    def __init__(
        self, policy: Policy, team: Team, agents: tuple[str, ...], id: str, masks: str, hidden: Any
    ) -> None:
        together = getattr(policy, "group_size", 1)
        if together not in (1, len(agents)):
            raise UsageError(
                f"{id} has {len(agents)} agents ({', '.join(agents)}), but the policy was trained for "
                f"{together} that decide together."
            )
        self._policy, self._team, self._agents = policy, team, agents
        space, self._actions = common_spaces(team.env, id, agents, masks)
        self._columns = [team.agents.index(agent) for agent in agents]
        self._encode = Encoder(policy_space(space, hidden))
        self._batch = ObservationBatch(space, len(agents))
        self._masks = TeamMasks(team, agents, masks)
        self._legal = np.stack([self._masks.anything()] * len(agents))

    def begin(self, seed: int) -> None:
        self._policy.reset(seed)

    def see(self, observations: Mapping[str, Any], appeared: Array) -> None:
        """Take in observations; those that aren't there keep their last."""
        for k, (agent, column) in enumerate(zip(self._agents, self._columns, strict=True)):
            if agent in observations:
                self._batch.write(k, observations[agent])
            if self._masks.space is not None:
                there = self._team.present[column] and not self._team.waiting[column]
                read, seen = self._masks.read, observations.get(agent)
                self._legal[k] = read(self._team, agent, seen) if there else self._masks.anything()
        if appeared[self._columns].any():
            self._policy.reset(None, appeared[self._columns])

    def act(self, deterministic: bool) -> dict[str, Any]:
        """Actions of all of them, by agent."""
        acts = self._team.present & ~self._team.waiting
        seen = {"policy": self._seen(), PRESENT: acts[self._columns, None]}
        seen |= {} if self._masks.space is None else {KEY: self._legal}
        actions = self._policy.act(seen, deterministic)
        return {
            agent: to_action(row_of(actions, self._actions, k), self._actions)
            for k, agent in enumerate(self._agents)
        }

    def _seen(self) -> Array:
        try:
            seen = self._encode(self._batch.value)
        except BadObservationError as error:
            raise self._team.fault(f"{self._agents[error.row]}, {error.key}", error.problem) from error
        fine = usable(seen).reshape(len(seen), -1).all(axis=1)
        bad = ~fine & self._team.present[self._columns]
        if bad.any():
            agent = self._agents[int(np.flatnonzero(bad)[0])]
            raise self._team.fault(
                f"{agent}, observation", "has a number that isn't finite in single precision"
            )
        return seen


def _mean(returns: Array, took_part: Array) -> float:
    """Over those who took part; 0 before anybody did."""
    return float(returns.sum() / max(1, np.count_nonzero(took_part)))


class TeamPlayer(Player):
    """Plays single episodes of an environment with several agents, each of which is a row of a batch.

    Its policy is the one that all share, or has ``by_agents``: agents and their policy. In a `Match`
    or a `Company` the returns are those of the policy, not of others.
    """

    def _prepare(self, critic_keys: Sequence[str], action_masks: str) -> None:
        env: Any = self._env
        agents = agent_names(env, self._name)
        self._index = 0
        self._team = Team(env, agents, self._where, None, action_masks)
        by_agents: Mapping[tuple[str, ...], Policy] = getattr(
            self._policy, "by_agents", {agents: self._policy}
        )
        self._seats = [
            _Seats(policy, self._team, own, self._name, action_masks, critic_keys)
            for own, policy in by_agents.items()
        ]

    def _where(self, step: int) -> str:
        return f"{self._name}, test episode {self._index}, step {step}"

    def play(self, index: int, seed: int) -> Episode | None:
        """Play one episode; see `Player.play`.

        Returns:
            The result; its return is the mean of the returns of the agents that took part. Those of each
            agent and the team's are among its numbers.
        """
        self._index, team = index, self._team
        for seats in self._seats:
            seats.begin(seed)
        count = len(team.agents)
        returns, took_part, length = np.zeros(count), np.zeros(count, bool), 0
        ours = np.ones(count, bool)
        if isinstance(self._policy, Match | Company):
            ours = self._policy.counts(seed)
        self._see(team.reset(seed), np.zeros(count, bool))
        if self._recorder is not None:
            self._recorder.begin()
        self._show(index, 0, 0.0)
        while not team.over and length < self._max_steps:
            actions: dict[str, Any] = {}
            for seats in self._seats:
                actions |= seats.act(self._deterministic)
            PULSE.beat()
            step = team.step(actions)
            length += 1
            returns += step.rewards
            took_part |= step.acted
            self._see(step.observations, step.present & ~step.acted)
            self._show(index, length, _mean(returns[ours], took_part[ours]))
            if self._watched and window_closed():
                return None
        episode_return = _mean(returns[ours], took_part[ours])
        if self._recorder is not None:
            self._recorder.end(episode_return)
        info = {f"{RETURN}/{team.agents[k]}": float(returns[k]) for k in np.flatnonzero(took_part)}
        info |= team_return(returns) | (won(returns, ours) if isinstance(self._policy, Match) else {})
        return Episode(episode_return, length, hit_step_limit=not team.over, info=info)

    def _see(self, observations: Mapping[str, Any], appeared: Array) -> None:
        for seats in self._seats:
            seats.see(observations, appeared)
