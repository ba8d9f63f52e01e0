"""A penalty for leaving the policy that a run began with."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.settings.schedules import Schedule, ScheduleLike, as_schedule


class KLAnchor(Friend):
    r"""Penalise the divergence from the policy that the run started with; the penalty fades.

    The loss gains :math:`\beta\,\mathrm{KL}(\pi \,\|\, \pi_0)`. The policy :math:`\pi_0` is the one before
    the first update, after `InitFrom` or `BehaviourCloning`, and is saved with the run. Both see the same
    observations, normalised as they are now.
    """

    source = "arXiv:1909.08593, section 2"
    reported = (
        Metric("coefficient", "Weight of the divergence in this update (beta)"),
        Metric("loss", "Weighted divergence from the starting policy, mean over the update"),
    )

    works_with_memory = False  # the starting policy would have to remember on its own

    taken: Tensor

    def __init__(self, coefficient: ScheduleLike = Schedule(0.5, 0.0)) -> None:
        """Args: coefficient: Beta; a schedule such as ``0.5:0`` fades."""
        super().__init__()
        self.schedule = as_schedule(coefficient)
        self.coefficient = self.schedule.start
        self.taken = self.statistic("taken", np.array(0.0))

    def attach(self, agent: Agent) -> None:
        """Allocate a copy of the network."""
        self._network = agent.network
        self._anchor = copy.deepcopy(agent.network).requires_grad_(False)

    def tensors(self) -> dict[str, Tensor]:
        """The copy is saved with the run, too."""
        own = super().tensors()
        if hasattr(self, "_anchor"):
            own |= {f"anchor.{name}": tensor for name, tensor in self._anchor.state_dict().items()}
        return own

    def after_rollout(self, rollout: Rollout) -> None:
        """Copy the policy before the run's first update."""
        if self.taken.item():
            return
        for here, there in zip(
            self._anchor.state_dict().values(), self._network.state_dict().values(), strict=True
        ):
            here.copy_(there)
        self.taken.fill_(1.0)

    def before_update(self, controls: Controls) -> None:
        """Follow the schedule."""
        self.coefficient = self.schedule.value(controls.status, least=0.0)

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """The analytic divergence times beta."""
        if self.coefficient == 0.0:
            return {"loss": minibatch.policy_parameters.sum() * 0.0}
        with torch.no_grad():
            seen = replace(minibatch)
            seen.evaluate(self._anchor)
            anchor = seen.policy_parameters
        kl = self.context.distribution.kl(minibatch.policy_parameters, anchor)
        return {"loss": minibatch.mean(kl) * self.coefficient}

    def metrics(self) -> dict[str, float]:
        """Beta."""
        return {"coefficient": self.coefficient}
