"""The backend for environments with several agents: each agent in each environment is a row of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.common.nested import copied, row_of
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings
from ppo_and_friends.vector.adapter import notice
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.checked_env import left_out_notice
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.codec import encoders
from ppo_and_friends.vector.critics import critic_view
from ppo_and_friends.vector.faults import where
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.parallel import agent_names, common_spaces, make_parallel_env
from ppo_and_friends.vector.protocol import VectorStep
from ppo_and_friends.vector.spaces import check_action_space
from ppo_and_friends.vector.team import RETURN, Team, team_return

Array = NDArray[Any]


class PettingZooVectorEnv:
    """Steps the environments in this process, one after another; row e * n + k is agent k of environment e.

    Rows of agents that aren't there are inactive: their actions are ignored, their observations stay.
    """

    backend = "petting_zoo"
    device = None

    def __init__(self, settings: EnvironmentSettings, agents: AgentSettings, layout: Layout) -> None:
        """Create this rank's environments.

        Args:
            settings: The environment.
            agents: What the agents share.
            layout: This rank's environments.

        Raises:
            UsageError: They can't be created, or their agents or spaces aren't supported or differ.
            EnvironmentFault: An environment's own code raised an exception.
        """
        self._teams: list[Team] = []
        self._first = layout.first
        self._output = Output()
        try:
            with self._output:
                for e in range(layout.local):
                    env = make_parallel_env(settings)
                    names = agent_names(env, settings.id)
                    place = partial(where, layout.first + e)
                    self._teams.append(Team(env, names, place, settings.max_episode_steps))
                first = self._teams[0]
                space, self.action_space = common_spaces(first.env, settings.id)
                check_action_space(self.action_space)
                self.agents = first.agents
                self.num_envs = layout.local * len(self.agents)
                self._encoders = encoders(space, settings.critic_observations)
                self.encoder = self._encoders["policy"]
                self.observation_space = self.encoder.space
                self._critic = critic_view(agents.critic, self._teams, self._encoders)
        except BaseException:
            self.close()
            raise
        self.other_spaces: Mapping[str, spaces.Box] = (
            {} if self._critic is None else {"critic": self._critic.space}
        )
        self._settings = agents
        self._batch = ObservationBatch(space, self.num_envs)
        self._returns = np.zeros((layout.local, len(self.agents)))

    @property
    def notices(self) -> list[str]:
        """What the user should know about the environments, as far as they have shown it."""
        adapted = dict.fromkeys(each for team in self._teams for each in team.adapted)
        found = [notice(list(adapted)), left_out_notice(self.encoder.declared), self._output.notice()]
        return [each for each in found if each]

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        self._returns[:] = 0.0
        seen = np.zeros(self._returns.shape, np.bool_)
        with self._output:
            for e, team in enumerate(self._teams):
                self._write(e, team.reset(seed=seed + e * len(self.agents)))
                seen[e] = team.present
        return self._observations(seen)

    def step(self, actions: Any) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        actions = copied(actions, self.action_space)  # since environments may modify them
        shape = self._returns.shape
        scores, rewards = np.zeros(shape), np.zeros(shape)
        terminated, truncated, active, starts, seen = (np.zeros(shape, np.bool_) for _ in range(5))
        infos: dict[int, dict[str, float]] = {}
        with self._output:
            for e, team in enumerate(self._teams):
                if team.over:
                    self._write(e, team.reset())
                    self._returns[e] = 0.0
                    starts[e] = seen[e] = team.present
                    continue
                step = team.step(self._actions(e, actions))
                self._write(e, step.observations)
                active[e], scores[e] = step.acted, step.rewards
                terminated[e], truncated[e] = step.terminated, step.truncated
                starts[e], seen[e] = step.present & ~step.acted, step.present | step.acted
                rewards[e] = step.rewards
                if self._settings.reward == "team":
                    rewards[e] = np.where(step.acted, step.rewards.sum() / step.acted.sum(), 0.0)
                self._returns[e] += step.rewards
                infos |= self._ended(e, team, terminated[e] | truncated[e], step.infos)
        finished = terminated | truncated
        if self._settings.truncation == "terminate":
            terminated, truncated = finished, np.zeros_like(truncated)
        return VectorStep(
            observations=self._observations(seen),
            rewards=rewards.reshape(-1),
            terminated=terminated.reshape(-1),
            truncated=truncated.reshape(-1),
            active=active.reshape(-1),
            episode_starts=starts.reshape(-1),
            scores=scores.reshape(-1),
            finished=finished.reshape(-1),
            infos=infos,
        )

    def close(self) -> None:
        """Close the environments, up to one that doesn't return."""
        teams, self._teams = self._teams, []
        with self._output:
            for i, team in enumerate(teams, self._first):
                if not close_env(team.env, f"environment {i}"):
                    break

    def _write(self, e: int, observations: dict[str, Any]) -> None:
        for k, agent in enumerate(self.agents):
            if agent in observations:
                self._batch.write(e * len(self.agents) + k, observations[agent])

    def _actions(self, e: int, actions: Any) -> dict[str, Any]:
        first = e * len(self.agents)
        return {agent: row_of(actions, self.action_space, first + k) for k, agent in enumerate(self.agents)}

    def _observations(self, seen: Array) -> dict[str, Array]:
        """By name, [B, ...] each; ``seen`` [E, n]: which agents' observations are of now."""
        named = {name: encode(self._batch.value) for name, encode in self._encoders.items()}
        if self._critic is not None:
            named["critic"] = self._critic(named, seen)
        return named

    def _ended(self, e: int, team: Team, ended: Array, given: Any) -> dict[int, dict[str, float]]:
        """Numbers about the episodes that ended with this step, by row."""
        infos: dict[int, dict[str, float]] = {}
        first = e * len(self.agents)
        for k in np.flatnonzero(ended).tolist():
            agent = self.agents[k]
            own = {f"{RETURN}/{agent}": float(self._returns[e, k])}
            infos[first + k] = numbers_of(given.get(agent)) | own
        if team.over:
            infos.setdefault(first, {}).update(team_return(self._returns[e]))
        return infos
