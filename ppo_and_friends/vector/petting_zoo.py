"""The backend for environments with several agents: each agent in each environment is a row of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.common.nested import copied, row_of
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings
from ppo_and_friends.vector.adapter import notice
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.checked_env import left_out_notice
from ppo_and_friends.vector.codec import encoders
from ppo_and_friends.vector.critics import critic_view
from ppo_and_friends.vector.masks import KEY
from ppo_and_friends.vector.parallel import common_spaces
from ppo_and_friends.vector.protocol import PRESENT, VectorStep
from ppo_and_friends.vector.spaces import check_action_space
from ppo_and_friends.vector.states.environment import divided, joined
from ppo_and_friends.vector.states.restore import restored
from ppo_and_friends.vector.team import RETURN, team_return
from ppo_and_friends.vector.team_masks import TeamMasks
from ppo_and_friends.vector.teams import Teams, TeamsStep

Array = NDArray[Any]


class PettingZooVectorEnv:
    """All or some agents of a rank's environments; row e * n + k is agent k of them in environment e.

    Rows of agents that aren't there are inactive: their actions are ignored, their observations stay. Rows of
    agents that wait for their turn are inactive, too, but take part.

    Attributes:
        agents: The n agents whose rows these are.
    """

    backend = "petting_zoo"
    device = None

    def __init__(
        self,
        teams: Teams,
        settings: EnvironmentSettings,
        agents: AgentSettings,
        members: tuple[str, ...] | None = None,
    ) -> None:
        """Take the environments of a rank.

        Args:
            teams: All of them.
            settings: The environment.
            agents: What the agents share.
            members: Those whose rows these are. Whoever gives them steps and resets the environments; before
                that, the actions are offered. None: all, and these are stepped here.

        Raises:
            UsageError: Their spaces aren't supported or differ.
        """
        self.teams, self._settings, self._shared = teams, agents, members is not None
        self.agents = teams.agents if members is None else members
        self._columns = [teams.agents.index(agent) for agent in self.agents]
        self.num_envs = len(teams.teams) * len(self.agents)
        first, masks = teams.teams[0], settings.action_masks
        space, self.action_space = common_spaces(first.env, settings.id, self.agents, masks)
        check_action_space(self.action_space)
        self._encoders = encoders(space, settings.critic_observations)
        self.encoder = self._encoders["policy"]
        self.observation_space = self.encoder.space
        with teams.output:
            self._critic = critic_view(agents, teams.teams, self._encoders, self._columns, masks)
            self._masks = TeamMasks(first, self.agents, masks)
        others: dict[str, spaces.Box] = {PRESENT: spaces.Box(0, 1, (1,), np.bool_)}  # type: ignore[arg-type]
        if self._critic is not None:
            others["critic"] = self._critic.space
        if self._masks.space is not None:
            others[KEY] = self._masks.space
        self.other_spaces: Mapping[str, spaces.Box] = others
        self._batch = ObservationBatch(space, self.num_envs)
        self._returns = np.zeros((len(teams.teams), len(self.agents)))

    @property
    def notices(self) -> list[str]:
        """What the user should know about the environments, as far as they have shown it."""
        adapted = dict.fromkeys(each for team in self.teams.teams for each in team.adapted)
        found = [notice(list(adapted)), left_out_notice(self.encoder.declared), self.teams.output.notice()]
        return [each for each in found if each]

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        latest = self.teams.latest if self._shared else self.teams.reset(seed)
        assert latest is not None
        self._returns[:] = 0.0
        if self._critic is not None:
            self._critic.reset(seed)
        return self._observations(latest)

    def offer(self, actions: Any) -> None:
        """Give these agents' actions for the next step of the environments."""
        for given, own in zip(self.teams.offered, self._by_agent(actions), strict=True):
            given.update(own)

    def step(self, actions: Any) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        latest = self.teams.latest if self._shared else self.teams.step(self._by_agent(actions))
        assert latest is not None
        shape, own = self._returns.shape, self._columns
        true_rewards, rewards = np.zeros(shape), np.zeros(shape)
        terminated, truncated, active, waiting = (np.zeros(shape, np.bool_) for _ in range(4))
        infos: dict[int, dict[str, float]] = {}
        for e, step in enumerate(latest.steps):
            if step is None:
                self._returns[e] = 0.0
                continue
            there, true_rewards[e] = step.acted[own], step.rewards[own]
            waiting[e] = step.waited[own]
            active[e] = there & ~waiting[e]
            terminated[e], truncated[e] = step.terminated[own], step.truncated[own]
            rewards[e] = true_rewards[e]
            if self._settings.reward == "team" and there.any():
                rewards[e] = np.where(there, true_rewards[e].sum() / there.sum(), 0.0)
            self._returns[e] += true_rewards[e]
            infos |= self._ended(e, terminated[e] | truncated[e], step.infos)
        finished = terminated | truncated
        if self._settings.truncation == "terminate":
            terminated, truncated = finished, np.zeros_like(truncated)
        return VectorStep(
            observations=self._observations(latest),
            rewards=rewards.reshape(-1),
            terminated=terminated.reshape(-1),
            truncated=truncated.reshape(-1),
            active=active.reshape(-1),
            episode_starts=latest.starts[:, own].reshape(-1),
            true_rewards=true_rewards.reshape(-1),
            finished=finished.reshape(-1),
            infos=infos,
            waiting=waiting.reshape(-1) if self._has_turns() else None,
        )

    def get_states(self) -> list[bytes]:
        """The states of the environments; see `VectorEnv`."""
        with self.teams.output:
            return [
                joined([team.remembered(), self._remembered(e)], team.env)
                for e, team in enumerate(self.teams.teams)
            ]

    def set_states(self, states: Sequence[bytes]) -> None:
        """Set the states of the environments, which were reset; see `VectorEnv`."""
        with self.teams.output:
            for e, (team, state) in enumerate(zip(self.teams.teams, states, strict=True)):
                (remembered, own), of_env = divided(state)
                team.recall(remembered)
                self._recall(e, own)
                restored(of_env, team.env)

    def _remembered(self, e: int) -> list[Any]:
        """What is kept of environment e here."""
        rows = range(e * len(self.agents), (e + 1) * len(self.agents))
        critic = None if self._critic is None else self._critic.remembered(e)
        return [self._returns[e].copy(), [self._batch.row(row) for row in rows], critic]

    def _recall(self, e: int, remembered: list[Any]) -> None:
        self._returns[e], rows, critic = remembered
        for k, row in enumerate(rows):
            self._batch.set_row(e * len(self.agents) + k, row)
        if self._critic is not None:
            self._critic.recall(e, critic)

    def close(self) -> None:
        """Close the environments."""
        self.teams.close()

    def _has_turns(self) -> bool:
        return any(team.has_turns for team in self.teams.teams)

    def _by_agent(self, actions: Any) -> list[dict[str, Any]]:
        """Each environment's actions of these agents."""
        actions = copied(actions, self.action_space)  # since environments may modify them
        rows = iter(range(self.num_envs))
        return [
            {agent: row_of(actions, self.action_space, next(rows)) for agent in self.agents}
            for _ in self.teams.teams
        ]

    def _observations(self, latest: TeamsStep) -> dict[str, Array]:
        """By name, [B, ...] each."""
        for e, observations in enumerate(latest.observations):
            for k, agent in enumerate(self.agents):
                if agent in observations:
                    self._batch.write(e * len(self.agents) + k, observations[agent])
        named = {name: encode(self._batch.value) for name, encode in self._encoders.items()}
        if self._critic is not None:
            named["critic"] = self._critic(named, latest)
        acts = latest.present & ~np.stack([team.waiting for team in self.teams.teams])
        named[PRESENT] = acts[:, self._columns].reshape(-1, 1)
        if self._masks.space is not None:
            named[KEY] = self._legal(latest)
        return named

    def _legal(self, latest: TeamsStep) -> Array:
        """The masks [B, M]; nothing is forbidden to agents that aren't there, or wait for their turn."""
        masks = [
            self._masks.read(team, agent, observations.get(agent))
            if team.present[column] and not team.waiting[column]
            else self._masks.anything()
            for team, observations in zip(self.teams.teams, latest.observations, strict=True)
            for agent, column in zip(self.agents, self._columns, strict=True)
        ]
        return np.stack(masks)

    def _ended(self, e: int, ended: Array, given: Any) -> dict[int, dict[str, float]]:
        """Numbers about the episodes that ended with this step, by row."""
        infos: dict[int, dict[str, float]] = {}
        first = e * len(self.agents)
        for k in np.flatnonzero(ended).tolist():
            agent = self.agents[k]
            own = {f"{RETURN}/{agent}": float(self._returns[e, k])}
            infos[first + k] = numbers_of(given.get(agent)) | own
        if self.teams.teams[e].over:
            infos.setdefault(first, {}).update(team_return(self._returns[e]))
        return infos
