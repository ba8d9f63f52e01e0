"""One environment with several agents, whose every result is checked. Torch isn't imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.vector.faults import passing, raised_fault
from ppo_and_friends.vector.parallel import ParallelEnv, without_mask
from ppo_and_friends.vector.result_checks import ResultChecks
from ppo_and_friends.vector.turns import TURN

Array = NDArray[Any]

RETURN = "episode_return"
"""Beginning of the names under which each agent's return, and the team's, are among an episode's numbers."""

REMEMBERED = ("present", "waiting", "has_turns", "over", "_steps", "_length")
"""A `Team`'s attributes that change with its steps."""

TEAM = "team"
"""The sum over an environment's agents."""


def team_return(returns: Array) -> dict[str, float]:
    """The team's return, from those of its agents, as a number of the episode."""
    return {f"{RETURN}/{TEAM}": float(returns.sum())}


@dataclass(slots=True)
class TeamStep:
    """What one step of n agents gave, in the order of their names."""

    observations: dict[str, Any]
    """Of the agents that acted, and of those that are there now; some that acted may have none."""

    acted: Array
    """[n] bool, whether the agent took part in this step."""

    waited: Array
    """[n] bool, whether it took part, but did nothing, since it was another's turn."""

    present: Array
    """[n] bool, whether it is there now, and will act in the next."""

    rewards: Array
    """[n] float, 0 for those that didn't act."""

    terminated: Array
    """[n] bool."""

    truncated: Array
    """[n] bool. Excludes ``terminated``."""

    infos: Mapping[str, Any] = field(default_factory=dict)


class Team:
    """An environment and its agents.

    Attributes:
        agents: All agents that may ever appear, in order.
        present: [n] bool, which are there now.
        waiting: [n] bool, which of them do nothing in the next step, since it is another's turn.
        has_turns: Whether agents have been seen to act in turns.
        infos: The last ones, by agent.
        over: Whether the episode is over: nobody is there any more.
        adapted: What was taken although it isn't as the spaces say.
    """

    def __init__(
        self,
        env: ParallelEnv,
        agents: tuple[str, ...],
        where: Callable[[int], str],
        limit: int | None,
        masks: str = "off",
    ) -> None:
        """Take an environment.

        Args:
            env: The environment.
            agents: Its agents.
            where: Says which environment, and which step of it, this is, in messages.
            limit: Steps after which an episode is truncated; None: when the environment does it.
            masks: The setting ``environment.action_masks``.
        """
        self.env, self.agents, self.adapted = env, agents, dict[str, None]()
        self.infos: Mapping[str, Any] = {}
        self.present: Array = np.zeros(len(agents), np.bool_)
        self.waiting: Array = np.zeros(len(agents), np.bool_)
        self.has_turns = self.over = False
        self._where, self._limit, self._masks = where, limit, masks
        self._place = {agent: k for k, agent in enumerate(agents)}
        self._steps = self._length = 0
        self._checks = {agent: self._checks_of(agent) for agent in agents}

    def reset(self, seed: int | None = None) -> dict[str, Any]:
        """Begin an episode; returns the observations of the agents that are there.

        Raises:
            EnvironmentFault: The environment raised, returned something unusable, or has no agents.
        """
        if seed is None:
            self._steps += 1  # an automatic reset takes the place of a step
        try:
            result = self.env.reset() if seed is None else self.env.reset(seed=seed)
        except passing():
            raise
        except BaseException as error:
            raise self._raised("reset", error) from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Mapping):
            raise self.fault("reset", "returned something other than (observations, infos) by agent")
        self.present, self.over, self._length = self._there(self.env.agents), False, 0
        if not self.present.any():
            raise self.fault("reset", "no agent is there (agents is empty)")
        self.infos = result[1] if isinstance(result[1], Mapping) else {}
        self._find_turn()
        return self._observations(result[0], self.present)

    def peek(self) -> dict[str, Mapping[str, Any]]:
        """The infos of a reset, to see what is in them; what else is wrong shows at the first reset."""
        try:
            infos: Any = self.env.reset(seed=0)[1]
        except Exception:
            return {}
        if not isinstance(infos, Mapping):
            return {}
        return {agent: info for agent, info in infos.items() if isinstance(info, Mapping)}

    def step(self, actions: Mapping[str, Any]) -> TeamStep:
        """Step with an action for each agent that is there.

        Raises:
            EnvironmentFault: The environment raised, or what it returned doesn't fit its spaces.
        """
        PULSE.beat()
        self._steps += 1
        self._length += 1
        acted, waited = self.present, self.waiting
        try:
            result = self.env.step({agent: actions[agent] for agent in self._names(acted & ~waited)})
        except passing():
            raise
        except BaseException as error:
            raise self._raised("step", error) from error
        if (
            not isinstance(result, tuple)
            or len(result) != 5
            or not all(isinstance(e, Mapping) for e in result)
        ):
            raise self.fault(
                "step",
                "returned something other than (observations, rewards, terminations, truncations, infos) by "
                "agent",
            )
        observations, rewards, terminations, truncations, infos = result
        self.infos = infos
        there = self._there(self.env.agents)
        step = TeamStep(
            {}, acted, waited, there, np.zeros(len(acted)), np.zeros_like(acted), np.zeros_like(acted), infos
        )
        timed_out = self._limit is not None and self._length >= self._limit
        for k in _places(acted):
            agent, checks = self.agents[k], self._checks[self.agents[k]]
            if agent not in rewards and not waited[k]:
                raise self.fault(f"{agent}, reward", "is missing, although the agent acted")
            step.rewards[k] = checks.number(rewards.get(agent, 0.0))
            terminated = checks.flag("terminated", terminations.get(agent, False))
            truncated = timed_out or checks.flag("truncated", truncations.get(agent, False))
            # One that is gone without a word has no future either.
            step.terminated[k] = terminated or not (truncated or there[k])
            step.truncated[k] = truncated and not step.terminated[k]
        for k in _places(there & ~acted):
            agent = self.agents[k]
            # Some environments go on listing those whose episode is over.
            if terminations.get(agent, False) or truncations.get(agent, False):
                there[k] = False
        step.present = there & ~(step.terminated | step.truncated)
        if timed_out:
            step.present[:] = False
        step.observations = self._observations(observations, step.present, acted)
        self.present, self.over = step.present, not step.present.any()
        self._find_turn()
        return step

    def remembered(self) -> dict[str, Any]:
        """What it goes on from, beside the environment's own state."""
        return {name: getattr(self, name) for name in REMEMBERED}

    def recall(self, remembered: Mapping[str, Any]) -> None:
        """Go on from what ``remembered`` returned."""
        for name in REMEMBERED:
            setattr(self, name, remembered[name])

    def state(self, size: int) -> Array:
        """The environment's ``state()``, flat.

        Raises:
            EnvironmentFault: It raised, or the state has another size.
        """
        env: Any = self.env
        try:
            state = np.asarray(env.state(), np.float64).reshape(-1)
        except passing():
            raise
        except BaseException as error:
            raise self._raised("state", error) from error
        if state.size != size:
            raise self.fault("state", f"has {state.size} numbers, not {size}")
        return state

    def whereabouts(self) -> str:
        """The environment and its step, for a report of what stands still."""
        return self._where(self._steps)

    def _find_turn(self) -> None:
        """Who waits, since the infos name another whose turn it is."""
        self.waiting = np.zeros_like(self.present)
        infos = (self.infos.get(agent) for agent in self._names(self.present))
        named = next((info[TURN] for info in infos if isinstance(info, Mapping) and TURN in info), None)
        if named is None:
            return
        self.has_turns = True
        if named not in self._place or not self.present[self._place[named]]:
            raise self.fault(f"info, {TURN}", f"it is the turn of {named!r}, who isn't there")
        self.waiting = self.present.copy()
        self.waiting[self._place[named]] = False

    def _there(self, agents: Any) -> Array:
        there = np.zeros(len(self.agents), np.bool_)
        for agent in agents:
            if agent not in self._place:
                raise self.fault("agents", f"{agent!r} isn't among its possible_agents")
            there[self._place[agent]] = True
        return there

    def _names(self, rows: Array) -> list[str]:
        return [agent for agent, one in zip(self.agents, rows.tolist(), strict=True) if one]

    def _observations(
        self, given: Mapping[str, Any], needed: Array, others: Array | None = None
    ) -> dict[str, Any]:
        """Checked observations of the agents that need one, and of others that have one."""
        found = {}
        for agent in self._names(needed if others is None else needed | others):
            if agent in given:
                found[agent] = self._checks[agent].observation(given[agent])
            elif needed[self._place[agent]]:
                raise self.fault(f"{agent}, observation", "is missing, although the agent is there")
        return found

    def _checks_of(self, agent: str) -> ResultChecks:
        checks = ResultChecks(
            without_mask(self.env.observation_space(agent), self._masks),
            lambda key, problem: self.fault(f"{agent}, {key}", problem),
        )
        checks.adapted = self.adapted
        return checks

    def fault(self, key: str, problem: str) -> EnvironmentFault:
        """The error about something that can't be used."""
        return EnvironmentFault(f"{self._where(self._steps)}, {key}: {problem}")

    def _raised(self, key: str, error: BaseException) -> EnvironmentFault:
        return raised_fault(f"{self._where(self._steps)}, {key}:", error)


def _places(rows: Array) -> list[int]:
    """Indices of the rows that are True; for so few, NumPy's own way takes several times as long."""
    return [k for k, one in enumerate(rows.tolist()) if one]
