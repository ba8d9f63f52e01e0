"""Settings of environments with several agents."""

from __future__ import annotations

from dataclasses import field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ppo_and_friends.errors import UsageError

SHARED = "policy"
"""Name of the policy that all agents share, where no other is given."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class AgentSettings:
    """What agents in one environment share. Read only where ``environment.api`` is ``petting_zoo``."""

    critic: Literal["own", "all", "environment", "state"] = "own"
    """What the critic sees in training: its agent's own observation (IPPO, arXiv:2011.09533); that, followed
    by those of ``all`` other agents of its policy, or of its ``environment``, whatever their policy; or that,
    followed by the environment's ``state()`` (MAPPO, arXiv:2103.01955). The actor sees its own observation
    alone."""

    shuffle: bool = False
    """Whether the critic sees the other agents of its policy in a new random order in each episode, instead
    of their own, so that it learns nothing from their places; with ``critic`` ``all`` or
    ``environment``."""

    reward: Literal["own", "team"] = "own"
    """What an agent learns from: its own reward, or the mean of those of the agents that acted. Reported are
    their own in either case."""

    truncation: Literal["bootstrap", "terminate"] = "bootstrap"
    """What it means to the training that the environment truncates an episode: it would have gone on, so that
    the value of its last observation counts; or the time limit belongs to the task, and nothing comes
    after it."""

    policies: dict[str, str] = field(default_factory=dict)
    """Which policy each agent has: patterns of names, such as ``{"adversary_*": "adversary", "*": "team"}``,
    of which the first that fits counts. Each policy has a network, friends and an optimizer of its own.
    Empty: all share one."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By policy, what differs in its settings, by dotted name: ``{"team": {"ppo.learning_rate": 1e-4}}``."""

    frozen: tuple[str, ...] = ()
    """Policies that act and learn nothing. With the friend ``InitFrom`` they can come from another run."""

    turns: Annotated[int, Field(gt=0)] | None = None
    """Iterations after which another policy learns, while the others are frozen; None: all learn at once."""

    @property
    def several(self) -> bool:
        """Whether agents have different policies."""
        return len(set(self.policies.values())) > 1

    def policy_of(self, agents: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """The agents of each policy, in order.

        Raises:
            UsageError: An agent has no policy, a pattern fits no agent, or a named policy isn't there.
        """
        patterns = self.policies or {"*": SHARED}
        found: dict[str, list[str]] = {}
        used = set()
        for agent in agents:
            pattern = next((each for each in patterns if fnmatchcase(agent, each)), None)
            if pattern is None:
                raise UsageError(
                    f"agents.policies: no pattern fits {agent}. There are {', '.join(patterns)}; "
                    "end with a pattern * for the rest."
                )
            used.add(pattern)
            found.setdefault(patterns[pattern], []).append(agent)
        for pattern, policy in patterns.items():
            if pattern not in used:
                raise UsageError(
                    f"agents.policies: {pattern!r} (for {policy}) names no agent. The agents are "
                    f"{', '.join(agents)}."
                )
        for setting, names in (("settings", self.settings), ("frozen", self.frozen)):
            for name in names:
                if name not in found:
                    raise UsageError(
                        f"agents.{setting}: there is no policy {name!r}. There are {', '.join(found)}."
                    )
        for setting in ("settings", "frozen", "turns"):
            if len(found) == 1 and getattr(self, setting):
                raise UsageError(
                    f"agents.{setting} is for several policies, but all agents share one (agents.policies)."
                )
        return {policy: tuple(own) for policy, own in found.items()}

    def learns(self, policy: str, policies: tuple[str, ...], iteration: int) -> bool:
        """Whether a policy learns in an iteration, counted from 1."""
        if policy in self.frozen:
            return False
        learning = [each for each in policies if each not in self.frozen]
        return self.turns is None or learning[(iteration - 1) // self.turns % len(learning)] == policy
