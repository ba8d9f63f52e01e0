"""Environments with several agents whose every number is known beforehand; they need no package."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings, Experiment, FriendSpec
from tests.engine import experiment

ALWAYS = ((0, 99), (0, 99), (0, 99))
"""Agents that are there from the first to the last step."""


class Squad:
    """Agent k observes [seed, k, t, noise] and is rewarded with 10 k + t.

    It is there from step ``lives[k][0]`` on (0: from the reset) and terminates with step ``lives[k][1]``.
    After ``length`` steps those who are left are truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        lives: Any = ALWAYS,
        length: int = 4,
        fault: str = "",
        names: Any = None,
        sizes: Any = (),
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.lives, self.length, self.fault, self.sizes = lives, length, fault, sizes
        self.possible_agents = list(names or (f"agent_{k}" for k in range(len(lives))))
        self.agents: list[str] = []
        self.actions: list[dict[str, int]] = []
        self.seed, self.t = 0, 0
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Any:
        sizes = dict(zip(self.possible_agents, self.sizes, strict=False))
        return spaces.Box(-np.inf, np.inf, (sizes.get(agent, 4),), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def _observe(self, agent: str) -> Any:
        k = self.possible_agents.index(agent)
        seen = np.zeros(self.observation_space(agent).shape, np.float32)
        seen[:4] = self.seed, k, self.t, self.random.normal()
        return seen

    def _there(self) -> list[str]:
        return [
            agent
            for agent, (born, dies) in zip(self.possible_agents, self.lives, strict=True)
            if born <= self.t < dies
        ]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.seed, self.random = seed, np.random.default_rng(seed)
        self.t = 0
        self.agents = self._there()
        return {agent: self._observe(agent) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        assert list(actions) == self.agents, f"actions for {list(actions)}, not {self.agents}"
        self.actions.append({agent: int(action) for agent, action in actions.items()})
        self.t += 1
        acted, cut = self.agents, self.t >= self.length
        there = [] if cut else self._there()
        observations = {
            agent: self._observe(agent) for agent in self.possible_agents if agent in {*acted, *there}
        }
        rewards: dict[str, Any] = {a: 10.0 * self.possible_agents.index(a) + self.t for a in acted}
        terminations: dict[str, Any] = {a: a not in self._there() for a in acted}
        truncations = dict.fromkeys(acted, cut)
        self.agents = there
        if self.t == 2:
            self._break(observations, rewards, terminations)
        infos = {agent: {"place": float(self.t)} for agent in acted}
        return observations, rewards, terminations, truncations, infos

    def _break(self, observations: Any, rewards: Any, terminations: Any) -> None:
        match self.fault:
            case "raise":
                raise ZeroDivisionError("the rope tore")
            case "nan":
                observations["agent_1"][2] = np.nan
            case "missing observation":
                del observations["agent_1"]
            case "missing reward":
                del rewards["agent_1"]
            case "shape":
                observations["agent_1"] = np.zeros(5, np.float32)
            case "flag":
                terminations["agent_1"] = "no"
            case "stranger":
                self.agents = [*self.agents, "agent_9"]

    def state(self) -> Any:
        return np.array([100.0 + self.t, self.seed], np.float32)

    def render(self) -> Any:
        return np.full((32, 32, 3), 20 * self.t, np.uint8)

    def close(self) -> None:
        pass


class Roles(Squad):
    """Rewards agent k with 1 for action k, and tells it nothing about which agent it is."""

    def _observe(self, agent: str) -> Any:
        return np.array([1.0, 0.0, 0.0, self.random.normal()], np.float32)

    def step(self, actions: Any) -> Any:
        right = {
            agent: float(action == self.possible_agents.index(agent)) for agent, action in actions.items()
        }
        observations, _, *rest = super().step(actions)
        return observations, right, *rest


def parallel_env(**arguments: Any) -> Squad:
    """As modules of PettingZoo's have it."""
    return Squad(**arguments)


MORTAL = ((0, 99), (0, 2), (1, 99))
"""The second dies with step 2, the third comes with step 1."""


def squad(
    *friends: FriendSpec,
    make: Any = Squad,
    num_envs: int = 4,
    agents: Any = None,
    options: Any = None,
    **settings: Any,
) -> Experiment:
    """A small experiment."""
    environment = EnvironmentSettings(
        id="Squad", api="petting_zoo", factory=make, num_envs=num_envs, arguments=options or {}
    )
    sizes: dict[str, Any] = {"rollout_timesteps": 240, "minibatch_size": 60} | settings
    made = experiment(environment, friends, **sizes)
    from dataclasses import replace

    return replace(made, agents=AgentSettings(**(agents or {})))


class Forbidding(Squad):
    """Agent k may only take action k, which its observation or its info says; anything else raises."""

    def __init__(self, place: str = "observation", **arguments: Any) -> None:
        super().__init__(**{"lives": MORTAL} | arguments)
        self.place = place

    def observation_space(self, agent: str) -> Any:
        seen = super().observation_space(agent)
        if self.place == "info":
            return seen
        return spaces.Dict(observation=seen, action_mask=spaces.Box(0, 1, (3,), np.int8))

    def _mask(self, agent: str) -> Any:
        return np.eye(3, dtype=np.int8)[self.possible_agents.index(agent)]

    def _observe(self, agent: str) -> Any:
        seen = np.array([self.seed, self.possible_agents.index(agent), self.t, 0.0], np.float32)
        return seen if self.place == "info" else {"observation": seen, "action_mask": self._mask(agent)}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        observations, infos = super().reset(seed)
        return observations, {agent: self._info(agent) for agent in infos}

    def _info(self, agent: str) -> Any:
        return {"action_mask": self._mask(agent)} if self.place == "info" else {}

    def step(self, actions: Any) -> Any:
        for agent, action in actions.items():
            assert action == self.possible_agents.index(agent), f"{agent} took {action}"
        observations, rewards, terminations, truncations, _ = super().step(actions)
        return (
            observations,
            rewards,
            terminations,
            truncations,
            {a: self._info(a) for a in self.possible_agents},
        )
