"""A run that begins with another run's policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from ppo_and_friends.common.tensors import tensor_fault
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.friends.context import SavedPolicy
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.normalizers import RewardNormalizer
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.friends.value_scale import PopArt, ValueNormalizer
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import RolloutRequest
from ppo_and_friends.vector.space_descriptions import describe, sizes

Parts = Literal["all", "actor", "critic"]
ACTOR = ("actor", "policy_head", "actor_encoder", "memory")
CRITIC = ("critic", "value_head", "critic_encoder", "critic_memory")
SHARED = ("actor_encoder", "critic_encoder", "memory")
"""What actor and critic have in common, if the settings say so."""

NORMALIZERS = (ObservationNormalizer, RewardNormalizer, ValueNormalizer, PopArt)


class InitFrom(Friend):
    """Begin with another run's network and normalisers, instead of random weights.

    It is loaded once, before the first rollout; a resumed run goes on with its own. Layers can be frozen for
    some timesteps, such as the actor while a new critic learns the actor's values.
    """

    source = "PPO and Friends"

    loaded: Tensor

    def __init__(
        self,
        run: str,
        parts: Parts = "all",
        normalizers: bool = True,
        freeze: tuple[str, ...] | str = (),
        freeze_timesteps: int = 0,
    ) -> None:
        """Choose what to take, and what to freeze.

        Args:
            run: The other run's folder, its ``best/``, a checkpoint's folder, or a packed policy.
            parts: The whole network, or its ``actor`` or ``critic`` alone; with a shared encoder, which
                belongs to both, the encoder comes along.
            normalizers: Take the statistics of the normalisers that both runs have, too.
            freeze: What isn't trained at first: ``actor``, ``critic``, or beginnings of parameters' names,
                such as ``actor.0``.
            freeze_timesteps: For how many timesteps, >= 0. The iteration in which they end is frozen, too.
        """
        super().__init__()
        self.run, self.parts, self.normalizers = run, parts, normalizers
        self.freeze = (freeze,) if isinstance(freeze, str) else freeze
        self.freeze_timesteps = freeze_timesteps
        if freeze_timesteps < 0 or bool(self.freeze) != bool(freeze_timesteps):
            raise UsageError("InitFrom: freeze and freeze_timesteps go together, timesteps above 0.")
        self.loaded = self.statistic("loaded", np.array(0.0))
        self._timesteps = 0
        self._frozen: list[nn.Parameter] = []

    def attach(self, agent: Agent) -> None:
        """Keep the agent, and find what to freeze."""
        self._agent = agent
        parameters = dict(agent.network.named_parameters())
        for name in self.freeze:
            starts = {"actor": ACTOR, "critic": CRITIC}.get(name, (name,))
            found = [p for key, p in parameters.items() if _is_under(key, starts)]
            if not found:
                raise UsageError(
                    f"InitFrom: freeze={name!r} fits no parameter. There are: {', '.join(parameters)}."
                )
            self._frozen += found

    def before_rollout(self, request: RolloutRequest) -> None:
        """Load, before the run's first rollout. A collective."""
        self._timesteps = int(request.status.latest.get("timesteps", 0))
        if self.loaded.item():
            return
        communicator = self.context.communicator
        own = self._agent.tensors()
        names = on_main(communicator, lambda: self._load(own))
        if communicator.size > 1:
            for name in names:
                flat = own[name].detach().cpu().flatten().clone()
                communicator.broadcast_(flat.numpy())
                own[name].data.copy_(flat.view(own[name].shape))
        self.loaded.fill_(1.0)

    def _load(self, own: Mapping[str, Tensor]) -> list[str]:
        """Copy the saved tensors into the agent's; on rank 0.

        Returns:
            Names of what was copied.

        Raises:
            UsageError: Something doesn't fit; names it.
            CheckpointError: Something can't be a policy's; names it.
        """
        assert self.context.load_policy is not None
        saved = self.context.load_policy(Path(self.run))
        self._check_spaces(saved)
        names = [name for name in own if name in saved.tensors and self._is_wanted(name)]
        network = [name for name in own if name.startswith("network.") and self._is_wanted(name)]
        for name in network:
            if name not in saved.tensors:
                raise UsageError(f"InitFrom: {self.run} has no {name}: the networks' settings differ.")
        for name in list(names):
            here, there = list(own[name].shape), list(saved.tensors[name].shape)
            if here != there:
                raise UsageError(
                    f"InitFrom: {name} has shape {here} here, but {there} in {self.run}: use the same "
                    "network and friends, or take parts of it (parts=actor, normalizers=false)."
                )
            fault = tensor_fault(own[name], saved.tensors[name], same_precision=False)
            if fault is not None:
                raise CheckpointError(f"InitFrom: the policy in {self.run} is damaged: {name} {fault}.")
        for name in names:
            own[name].data.copy_(saved.tensors[name])
        return names

    def _check_spaces(self, saved: SavedPolicy) -> None:
        context = self.context
        space = context.environment_space or context.observation_space
        wanted = [("observation", describe(space), saved.observation_space)]
        if self.parts != "critic":
            wanted.append(("action", describe(context.action_space), saved.action_space))
        for kind, here, there in wanted:
            if sizes(here) != sizes(there):
                raise UsageError(
                    f"InitFrom: the {kind} space is {here} here, but {there} in {self.run}: "
                    "a policy can't be taken over to other sizes."
                )

    def _is_wanted(self, name: str) -> bool:
        kind, _, rest = name.partition(".")
        if kind == "friends":
            # Nothing else of friends: their progress in the other run is meaningless in this one.
            kept = {friend.name for friend in self.context.friends if isinstance(friend, NORMALIZERS)}
            return self.normalizers and rest.partition(".")[0] in kept
        if self.parts == "all":
            return True
        network = self.built_in(self._agent.network)
        return _is_under(rest, _parts(network, self.parts))

    def before_step(self, gradients: Tensor) -> None:
        """Frozen parameters have no gradient; at the start of a run, so they have no momentum either."""
        if self._timesteps < self.freeze_timesteps:
            for parameter in self._frozen:
                assert parameter.grad is not None
                parameter.grad.zero_()


def _parts(network: ActorCritic, parts: Parts) -> tuple[str, ...]:
    common = network.shared or getattr(network, "critic_memory", network) is None
    return (*(ACTOR if parts == "actor" else CRITIC), *(SHARED if common else ()))


def _is_under(name: str, starts: tuple[str, ...]) -> bool:
    return any(name == start or name.startswith(f"{start}.") for start in starts)
