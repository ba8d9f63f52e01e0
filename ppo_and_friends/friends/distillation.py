"""Learning from a teacher that sees more than the policy does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.context import FriendContext, Teacher
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.networks.model import begun, legal
from ppo_and_friends.ppo.hooks import Controls, EpisodeHistory, RolloutRequest, transformed
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.rows import history_rows, of_prefix, prefixed, restored_history
from ppo_and_friends.settings.schedules import Schedule, ScheduleLike, as_schedule
from ppo_and_friends.vector.protocol import VectorStep

Array = NDArray[Any]


class Distillation(Friend):
    r"""Imitate, wherever the policy goes, a teacher that sees what the critic alone sees.

    The loss gains :math:`\beta\,\mathrm{KL}(\pi_{\mathrm{teacher}} \,\|\, \pi)` in the states that the policy
    itself reaches; the weight usually fades, and PPO goes on from there. The teacher is a run of the same
    environment, trained without ``environment.critic_observations``, so that it saw everything. It is read
    again when the run is resumed.
    """

    source = "arXiv:1912.12294"
    reported = (
        Metric("coefficient", "Weight of the divergence from the teacher in this update (beta)"),
        Metric("loss", "Weighted divergence of the policy from the teacher, mean over the update"),
    )

    def __init__(self, teacher: str, coefficient: ScheduleLike = Schedule(1.0, 0.0)) -> None:
        """Choose the teacher.

        Args:
            teacher: Its run's folder, its ``best/``, a checkpoint's folder, or a packed policy.
            coefficient: Beta; a schedule such as ``1:0`` fades.
        """
        super().__init__()
        self.path, self.schedule = teacher, as_schedule(coefficient)
        self.coefficient = self.schedule.start
        self._teacher: Teacher | None = None

    def setup(self, context: FriendContext) -> None:
        """Refuse a run in which all is seen."""
        super().setup(context)
        if context.critic_space is None:
            raise UsageError(
                "Distillation is for a policy that sees less than the critic: name what the critic alone "
                "sees in environment.critic_observations."
            )
        layout = context.layout
        self._seen: list[Array] = []
        self._last: Array | None = None
        self._history = EpisodeHistory(np.ones(layout.local, bool))
        self._state = torch.empty(0)

    def rows(self) -> dict[str, Array]:
        """What the teacher saw last, and what it remembers."""
        if self._last is None:
            return {}
        remembered = prefixed("history", history_rows(self._history))
        return {"last": self._last, "state": host_array(self._state), **remembered}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on from there."""
        self._last, self._state = rows["last"].copy(), torch.from_numpy(rows["state"].copy())
        self._history = restored_history(of_prefix("history", rows), None)

    def before_rollout(self, request: RolloutRequest) -> None:
        """Load the teacher, before the first rollout of this session. A collective then."""
        self._seen = []
        if self._teacher is None:
            assert self.context.load_teacher is not None
            self._teacher = self.context.load_teacher(Path(self.path))

    def observe(self, step: VectorStep) -> None:
        """Keep what the critic sees, as the environment shows it."""
        self._seen.append(np.array(step.observations["critic"]))

    def after_rollout(self, rollout: Rollout) -> None:
        """Ask the teacher what it would have done, step by step, since it may remember."""
        assert self._teacher is not None
        if rollout.restarted:
            self._last = None
        observations = [self._last, *self._seen[:-1]]
        self._last = self._seen[-1]
        self._check(self._last)
        found = torch.zeros_like(rollout.policy_parameters)
        # The first observations of all, after a reset, went by unseen.
        self._known = rollout.log_probs.new_ones(rollout.active.shape)
        actions = rollout.actions.cpu().numpy()
        for t, raw in enumerate(observations):
            if raw is None:
                self._begin(len(self._last))
                self._known[t] = 0.0
                continue
            starts = rollout.episode_starts[t]
            self._history.episode_starts = starts.cpu().numpy()
            parameters = self._ask(raw, starts)
            masks = rollout.observations.get("action_mask")
            seen = {} if masks is None else {"action_mask": masks[t]}
            found[t] = legal(self.context.distribution, parameters.to(found), seen)
            self._history.last_actions = actions[t]
        self._wanted = found.flatten(0, 1)

    @torch.inference_mode()
    def _ask(self, raw: Array, starts: Tensor) -> Tensor:
        assert self._teacher is not None
        agent = self._teacher.agent
        seen = transformed(agent.friends, {"policy": raw}, self._history)["policy"]
        inputs = torch.as_tensor(seen).to(agent.device)
        inputs = inputs.to(agent.dtype) if inputs.is_floating_point() else inputs
        state = begun(self._state.to(inputs.device), starts.to(agent.device))
        parameters, self._state = agent.network.step({"policy": inputs}, state)
        return parameters

    def _begin(self, rows: int) -> None:
        assert self._teacher is not None
        agent = self._teacher.agent
        self._history = EpisodeHistory(np.ones(rows, bool))
        self._state = torch.zeros((rows, agent.network.policy_state_size), dtype=agent.dtype)

    def _check(self, raw: Array) -> None:
        assert self._teacher is not None
        if self._teacher.agent.network.groups_agents:
            raise UsageError(
                f"Distillation: the agents of {self.path} decide together, and can't be asked here."
            )
        mapping, distribution = self._teacher.agent.mapping, self.context.distribution
        here, there = raw.shape[1:], self._teacher.observation_space.shape
        if here != there:
            raise UsageError(
                f"Distillation: {self.path} was trained on observations of shape {list(there)}, but here the "
                f"critic sees {list(here)}: train the teacher without environment.critic_observations."
            )
        if mapping.space != self.context.action_space or type(mapping.distribution) is not type(distribution):
            raise UsageError(
                f"Distillation: {self.path} has the actions {mapping.space}, but here they are "
                f"{self.context.action_space} (network.squash must agree, too)."
            )

    def before_update(self, controls: Controls) -> None:
        """Follow the schedule."""
        self.coefficient = self.schedule.value(controls.status, least=0.0)

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """The analytic divergence times beta."""
        samples = minibatch.samples
        kl = self.context.distribution.kl(self._wanted[samples], minibatch.policy_parameters)
        return {"loss": minibatch.mean(kl * self._known.flatten()[samples]) * self.coefficient}

    def metrics(self) -> dict[str, float]:
        """Beta."""
        return {"coefficient": self.coefficient}
