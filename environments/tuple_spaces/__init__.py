"""Environments of Gymnasium's with tuples: of a space, an observation and a reward for each agent.

Level-based foraging and RWARE are of this kind (arXiv:2006.07869).
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium
from gymnasium import spaces

from ppo_and_friends.errors import UsageError


class TupleSpacesEnv:
    """Such an environment by PettingZoo's rules. Agents ``agent_0`` and so on all stay to the end."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Take the environment.

        Raises:
            UsageError: Its spaces aren't tuples.
        """
        seen, done = env.observation_space, env.action_space
        if not isinstance(seen, spaces.Tuple) or not isinstance(done, spaces.Tuple) or len(seen) != len(done):
            raise UsageError(f"{env}: observation and action space must be tuples of equal length.")
        self._env, self.metadata = env, dict(env.metadata)
        self.render_mode = env.render_mode
        self.possible_agents = [f"agent_{k}" for k in range(len(done))]
        self.agents: list[str] = []
        self._seen = dict(zip(self.possible_agents, seen.spaces, strict=True))
        self._done = dict(zip(self.possible_agents, done.spaces, strict=True))

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Of one agent."""
        return self._seen[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Of one agent."""
        return self._done[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        observations, _ = self._env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._by_agent(observations), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Step with all agents' actions; the episode ends for all at once."""
        given = tuple(actions[agent] for agent in self.possible_agents)
        observations, rewards, terminated, truncated, info = self._env.step(given)
        over, cut = all_of(terminated), all_of(truncated)
        if over or cut:
            self.agents = []
        names = self.possible_agents
        infos = {agent: dict(info) for agent in names}
        return (
            self._by_agent(observations),
            self._by_agent(rewards),
            dict.fromkeys(names, over),
            dict.fromkeys(names, cut),
            infos,
        )

    def _by_agent(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def render(self) -> Any:
        """A picture."""
        return self._env.render()

    def close(self) -> None:
        """Release everything."""
        self._env.close()


def all_of(flags: Any) -> bool:
    """A flag of the environment, or one of each agent, as a single one."""
    return all(flags) if isinstance(flags, tuple | list) else bool(flags)


def _made(package: str, id: str, render_mode: str | None, arguments: dict[str, Any]) -> TupleSpacesEnv:
    try:
        importlib.import_module(package)  # registers the ids
    except ImportError as error:
        raise UsageError(f"{id} needs {package}: pip install 'ppo-and-friends[{package}]'.") from error
    return TupleSpacesEnv(gymnasium.make(id, render_mode=render_mode, disable_env_checker=True, **arguments))


def lbforaging(
    id: str = "Foraging-8x8-3p-2f-v3", render_mode: str | None = None, **arguments: Any
) -> TupleSpacesEnv:
    """Level-based foraging: agents load food that together they are strong enough for."""
    return _made("lbforaging", id, render_mode, arguments)


def rware(id: str = "rware-tiny-3ag-v2", render_mode: str | None = None, **arguments: Any) -> TupleSpacesEnv:
    """RWARE: robots bring the shelves that are asked for, and put them back."""
    return _made("rware", id, render_mode, arguments)
