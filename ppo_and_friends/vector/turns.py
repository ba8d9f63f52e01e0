"""Environments whose agents act in turns. Torch isn't imported here."""

from __future__ import annotations

from typing import Any

TURN = "active_agent"
"""Where an agent's info names whose turn it is, as PettingZoo's ``turn_based_aec_to_parallel`` has it: the
others wait."""


def in_turns(env: Any) -> Any:
    """An AEC environment of PettingZoo's as a parallel one, in each step of which one agent acts.

    PettingZoo's own conversion says whose turn it is after steps, but not after a reset.

    Raises:
        ImportError: PettingZoo isn't installed.
    """
    from pettingzoo.utils.conversions import turn_based_aec_to_parallel_wrapper

    class TurnBasedEnv(turn_based_aec_to_parallel_wrapper):
        def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            observations, infos = super().reset(seed=seed, options=options)
            first = self.aec_env.agent_selection
            return observations, {agent: {**infos.get(agent, {}), TURN: first} for agent in self.agents}

    return TurnBasedEnv(env)
