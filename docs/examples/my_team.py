"""An environment with several agents, by PettingZoo's rules: carriers that should spread over a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


class Spread:
    """Agents see the places of all, their own first.

    No base class and no package is needed: `possible_agents`, `agents`, two methods that return spaces,
    `reset` and `step` are.
    """

    def __init__(self, carriers: int = 3, steps: int = 25) -> None:
        """Arguments are set by `--set environment.arguments.carriers=4`."""
        self.possible_agents = [f"carrier_{k}" for k in range(carriers)]
        self.agents: list[str] = []
        self.steps = steps
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The same for each."""
        return spaces.Box(-np.inf, np.inf, (len(self.possible_agents),), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Left, stay, right."""
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """Place all at random."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.places = self.random.uniform(-1.0, 1.0, len(self.agents))
        return self._observations(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Move all; the reward is what the goals lack of somebody's company, the same for each."""
        self.time += 1
        acted = self.agents
        for k, agent in enumerate(acted):
            self.places[k] += 0.1 * (int(actions[agent]) - 1)
        goals = np.linspace(-1.0, 1.0, len(acted))
        reward = -float(np.abs(self.places - goals[:, None]).min(axis=1).sum())
        over = self.time >= self.steps
        self.agents = [] if over else acted
        return (
            {agent: observation for agent, observation in self._observations().items() if agent in acted},
            dict.fromkeys(acted, reward),
            dict.fromkeys(acted, False),
            dict.fromkeys(acted, over),
            {agent: {} for agent in acted},
        )

    def state(self) -> np.ndarray[Any, Any]:
        """What the critic may see of the whole, with `--set agents.critic=state`."""
        return np.array([*self.places, self.time / self.steps], np.float32)

    def _observations(self) -> dict[str, Any]:
        return {
            agent: np.roll(self.places, -k).astype(np.float32) for k, agent in enumerate(self.possible_agents)
        }


def parallel_env(**arguments: Any) -> Spread:
    """What PettingZoo's modules call it."""
    return Spread(**arguments)
