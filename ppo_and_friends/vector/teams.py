"""All of a rank's environments with several agents, stepped together, whatever policies their agents have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.faults import where
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.parallel import agent_names, make_parallel_env
from ppo_and_friends.vector.team import Team, TeamStep

Array = NDArray[Any]


@dataclass
class TeamsStep:
    """What one step, or a reset, of E environments with n agents gave."""

    observations: list[dict[str, Any]]
    """Of each environment, by agent; some have none."""

    steps: list[TeamStep | None]
    """Of each environment; None where it was reset."""

    seen: Array
    """[E, n] bool, whether the agent is there or acted, so that its observation is of now."""

    present: Array
    """[E, n] bool, whether the agent is there; where the episode is over, whether it was in its last step."""

    starts: Array
    """[E, n] bool, whether the observation is the first one of the agent's episode."""


class Teams:
    """The environments of a rank.

    Attributes:
        teams: Each environment with its agents.
        agents: All agents that may ever appear in one.
        output: What the environments print.
        offered: Each environment's actions by agent, for the next step, where several policies give them.
        latest: What the last step or reset gave.
    """

    def __init__(self, settings: EnvironmentSettings, layout: Layout) -> None:
        """Create them.

        Raises:
            UsageError: They can't be created, or have different agents.
            EnvironmentFault: An environment's own code raised an exception.
        """
        self.teams: list[Team] = []
        self.output = Output()
        self.latest: TeamsStep | None = None
        self.offered: list[dict[str, Any]] = [{} for _ in range(layout.local)]
        try:
            with self.output:
                for e in range(layout.local):
                    env = make_parallel_env(settings)
                    place = partial(where, layout.first + e)
                    names, limit = agent_names(env, settings.id), settings.max_episode_steps
                    team = Team(env, names, place, limit, settings.action_masks)
                    self.teams.append(team)
                    if team.agents != self.teams[0].agents:
                        raise UsageError(
                            f"{settings.id}: the environments don't all have the same agents: "
                            f"{', '.join(self.teams[0].agents)} and {', '.join(team.agents)}."
                        )
        except BaseException:
            self.close()
            raise
        self.agents = self.teams[0].agents

    def reset(self, seed: int) -> TeamsStep:
        """Reset all; environment e is seeded with ``seed + e * n``, its first row's seed."""
        n = len(self.agents)
        with self.output:
            observations = [team.reset(seed + e * n) for e, team in enumerate(self.teams)]
        there = np.stack([team.present for team in self.teams])
        self.latest = TeamsStep(observations, [None] * len(self.teams), there, there, there)
        return self.latest

    def step(self, actions: list[dict[str, Any]]) -> TeamsStep:
        """Step all with actions for all agents, present or not; reset where an episode is over."""
        shape = (len(self.teams), len(self.agents))
        seen, present, starts = (np.zeros(shape, np.bool_) for _ in range(3))
        observations: list[dict[str, Any]] = []
        steps: list[TeamStep | None] = []
        with self.output:
            for e, team in enumerate(self.teams):
                if team.over:
                    observations.append(team.reset())
                    steps.append(None)
                    starts[e] = seen[e] = present[e] = team.present
                else:
                    step = team.step(actions[e])
                    observations.append(step.observations)
                    steps.append(step)
                    starts[e], seen[e] = step.present & ~step.acted, step.present | step.acted
                    present[e] = step.acted if team.over else step.present
        self.latest = TeamsStep(observations, steps, seen, present, starts)
        return self.latest

    def step_with_offered(self) -> None:
        """Step with what was offered; sets ``latest``."""
        self.step(self.offered)
        self.offered = [{} for _ in self.teams]

    def close(self) -> None:
        """Close the environments, up to one that doesn't return."""
        teams, self.teams = self.teams, []
        with self.output:
            for team in teams:
                if not close_env(team.env, team.whereabouts()):
                    break
