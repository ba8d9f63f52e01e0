"""A game of two in turns, whose best moves are known. It needs no package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings, Experiment, FriendSpec
from tests.engine import experiment

PILE = 7
MOST = 3


class Nim:
    """Each takes one to three from a pile in turn; whoever takes the last wins 1, the other loses 1.

    The best move leaves a multiple of four; who begins with seven wins by taking three. ``draw`` truncates
    instead after so many moves.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, draw: int | None = None) -> None:
        self.possible_agents = ["first", "second"]
        self.agents: list[str] = []
        self.draw = draw

    def observation_space(self, agent: str) -> Any:
        return spaces.Dict(
            observation=spaces.Box(0, 1, (PILE + 1,), np.float32),
            action_mask=spaces.Box(0, 1, (MOST,), np.int8),
        )

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(MOST)

    def _seen(self) -> dict[str, Any]:
        legal = [int(take <= self.pile) for take in range(1, MOST + 1)]
        return {
            agent: {
                "observation": np.eye(PILE + 1, dtype=np.float32)[self.pile],
                # As PettingZoo has it: nothing is legal for the one who waits.
                "action_mask": np.array(legal if agent == self.turn else [0] * MOST, np.int8),
            }
            for agent in self.possible_agents
        }

    def _infos(self) -> dict[str, Any]:
        return {agent: {"active_agent": self.turn} for agent in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.pile, self.moves, self.turn = PILE, 0, "first"
        self.agents = list(self.possible_agents)
        return self._seen(), self._infos()

    def step(self, actions: Any) -> Any:
        assert list(actions) == [self.turn], f"{list(actions)} act in {self.turn}'s turn"
        other = next(agent for agent in self.possible_agents if agent != self.turn)
        self.pile, self.moves = self.pile - int(actions[self.turn]) - 1, self.moves + 1
        assert self.pile >= 0, "an illegal move"
        won, drawn = self.pile == 0, self.moves == self.draw
        rewards = {self.turn: float(won), other: -float(won)}
        self.turn = other
        seen, infos = self._seen(), self._infos()
        if won or drawn:
            self.agents = []
        return seen, rewards, dict.fromkeys(rewards, won), dict.fromkeys(rewards, drawn), infos

    def close(self) -> None:
        pass


def nim(*friends: FriendSpec, draw: int | None = None, num_envs: int = 4, **settings: Any) -> Experiment:
    """A small experiment."""
    environment = EnvironmentSettings(
        id="Nim", api="petting_zoo", factory=Nim, num_envs=num_envs, arguments={"draw": draw}
    )
    sizes: dict[str, Any] = {"rollout_timesteps": 8 * 16, "minibatch_size": 32, "precision": "float64"}
    return replace(experiment(environment, friends, **(sizes | settings)), agents=AgentSettings())
