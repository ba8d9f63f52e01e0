"""The trained policies of a run whose agents have different ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.ppo.acting_policy import ActingPolicy
from ppo_and_friends.settings.experiment import Experiment


class TrainedPolicies(Mapping[str, TrainedPolicy]):
    """Maps all agents' observations, by name, to their actions; ``policies["adversary"]`` is one of them.

    Attributes:
        experiment: The run's settings.
    """

    def __init__(self, experiment: Experiment, policies: Mapping[str, TrainedPolicy]) -> None:
        """Take them by name."""
        self.experiment = experiment
        self._policies = dict(policies)
        self._of = {agent: policy for policy in self._policies.values() for agent in policy.agents}

    def __getitem__(self, name: str) -> TrainedPolicy:
        """One of them."""
        return self._policies[name]

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._policies)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._policies)

    @property
    def timesteps(self) -> int:
        """Agent steps of all of them together."""
        return sum(policy.timesteps for policy in self._policies.values())

    @property
    def by_agents(self) -> dict[tuple[str, ...], ActingPolicy]:
        """Agents and the policy that they share, as an evaluation takes them."""
        return {policy.agents: policy.agent.policy() for policy in self._policies.values()}

    def __call__(
        self,
        observations: Mapping[str, Any],
        *,
        action_mask: Mapping[str, Any] | None = None,
        deterministic: bool = True,
    ) -> dict[str, Any]:
        """Choose actions.

        Args:
            observations: Of the agents that are there, by name, as PettingZoo returns them.
            action_mask: Which actions are legal, by agent, where the observations don't say it.
            deterministic: Take the distributions' modes; False: sample.

        Returns:
            Their actions, by name.

        Raises:
            UsageError: An agent has no policy, or an observation doesn't fit.
        """
        for agent in observations:
            if agent not in self._of:
                raise UsageError(f"no policy for agent {agent!r}; there are {', '.join(self._of)}.")
        actions: dict[str, Any] = {}
        for policy in self._policies.values():
            own = {agent: seen for agent, seen in observations.items() if agent in policy.agents}
            masks = {agent: mask for agent, mask in (action_mask or {}).items() if agent in own}
            if own:
                actions |= policy(own, action_mask=masks or None, deterministic=deterministic)
            else:
                policy.nobody_there()
        return {agent: actions[agent] for agent in observations}

    def reset(self, seed: int | None = None) -> None:
        """Start new episodes; see `TrainedPolicy.reset`."""
        for policy in self._policies.values():
            policy.reset(seed)
