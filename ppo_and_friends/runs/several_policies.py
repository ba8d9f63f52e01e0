"""Trainers of several policies whose agents share environments: one each, and one collection for all.

Each trainer is an ordinary one, with rows of its own. Its rollout is collected together with the others'.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.company import Company
from ppo_and_friends.evaluation.player import Policy
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.rows import Rows
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.own import FOLDER_NAME
from ppo_and_friends.vector.teams import Teams

Array = NDArray[Any]

ALONE = ("Curriculum", "DomainRandomisation")
"""Friends that change whole environments, of which a policy is only a part."""

ONCE = ("VideoRecorder",)
"""Friends that only the first policy has: the others would do the same."""

WHOLE_RUN = (
    "environment",
    "agents",
    "name",
    "num_timesteps",
    "random_seed",
    "checkpoint_seconds",
    "ppo.rollout_timesteps",
)
"""Beginnings of the names of settings that all policies of a run have in common."""


def own_seed(seed: int, name: str) -> int:
    """The seed of a policy that isn't the first one, whose seed is the run's."""
    place = 1, zlib.crc32(name.encode())
    return int(Randomness(seed).generator(Purpose.INITIALISATION, *place).integers(2**62))


def policy_experiments(
    experiment: Experiment, policies: dict[str, tuple[str, ...]], num_envs: int
) -> dict[str, Experiment]:
    """Each policy's experiment: the run's, with the policy's own settings and its share of the timesteps.

    Args:
        experiment: The run's.
        policies: The agents of each policy.
        num_envs: Environments over all ranks.

    Raises:
        UsageError: A name can't be a folder's, a setting doesn't fit, or a friend can't be here.
    """
    agents = sum(map(len, policies.values()))
    steps = max(1, round(experiment.ppo.rollout_timesteps / (num_envs * agents)))
    made = {}
    for index, (name, own) in enumerate(policies.items()):
        if not FOLDER_NAME.fullmatch(name):
            raise UsageError(f"policy name {name!r}: use letters, digits, '-' and '_' only.")
        settings = experiment.agents.settings.get(name, {})
        for setting in settings:
            if setting.startswith(WHOLE_RUN):
                raise UsageError(
                    f"agents.settings: {setting} (of {name}) can't differ between policies, which share "
                    "environments and rollouts: set it for the run."
                )
        changed = experiment.with_changes(settings)
        if index > 0:
            once = tuple(spec for spec in changed.friends if spec.name not in ONCE)
            changed = replace(changed, friends=once)
        for spec in changed.friends:
            if spec.name in ALONE:
                raise UsageError(f"{spec.name} can't be used with several policies: --without {spec.name}.")
        made[name] = replace(
            changed,
            name=name,
            random_seed=experiment.random_seed if index == 0 else own_seed(experiment.random_seed, name),
            num_timesteps=max(1, round(experiment.num_timesteps * len(own) / agents)),
            ppo=replace(changed.ppo, rollout_timesteps=steps * num_envs * len(own)),
        )
    return made


class Policies:
    """The agents, in the sense of network and friends, that are trained together, once they are built."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Args: names: All agents of the environment, in order."""
        self._names = names
        self._agents: dict[tuple[str, ...], Agent] = {}

    def add(self, own: tuple[str, ...], agent: Agent) -> None:
        """Add one."""
        self._agents[own] = agent

    def company(self, own: tuple[str, ...], policy: Policy) -> Company:
        """A policy and, as they are now, all others."""
        others = {names: agent.policy() for names, agent in self._agents.items()}
        return Company(self._names, others | {own: policy}, own)


class JointCollection:
    """Collects the rollouts of all policies together, when the first of their trainers asks for its own."""

    def __init__(self, teams: Teams, randomness: Randomness, layout: Layout) -> None:
        """Take the environments.

        Args:
            teams: This rank's.
            randomness: The run's.
            layout: Which environments these are.
        """
        self._teams, self._randomness = teams, randomness
        self._first = layout.first * len(teams.agents)
        self._trainers: list[PolicyTrainer] = []
        self._waiting: dict[int, Rollout] = {}

    def join(self, trainer: PolicyTrainer) -> None:
        """Add a trainer; all must be there before the first rollout."""
        self._trainers.append(trainer)

    def waits(self, trainer: PolicyTrainer) -> bool:
        """Whether a trainer's next rollout is there already."""
        return id(trainer) in self._waiting

    def rollout_of(self, trainer: PolicyTrainer) -> Rollout:
        """A trainer's next rollout."""
        if id(trainer) not in self._waiting:
            self._collect()
        return self._waiting.pop(id(trainer))

    def _collect(self) -> None:
        trainers = self._trainers
        requests = [trainer.begin_rollout() for trainer in trainers]
        if any(request.reset for request in requests):
            seed = self._randomness.integer(Purpose.RESET, trainers[0].iteration) + self._first
            self._teams.reset(seed)
            for trainer, request in zip(trainers, requests, strict=True):
                request.reset = True
                trainer.restart()
        under_way = [
            trainer.collector.collecting(request) for trainer, request in zip(trainers, requests, strict=True)
        ]
        actions = [next(steps) for steps in under_way]
        rollouts: list[Rollout] = []
        while not rollouts:  # all have as many steps
            for trainer, own in zip(trainers, actions, strict=True):
                trainer.offer(own)
            self._teams.step_with_offered()
            given = [trainer.collector.envs.step(own) for trainer, own in zip(trainers, actions, strict=True)]
            actions = []
            for steps, step in zip(under_way, given, strict=True):
                try:
                    actions.append(steps.send(step))
                except StopIteration as done:
                    rollouts.append(done.value)
        for trainer, request, rollout in zip(trainers, requests, rollouts, strict=True):
            self._waiting[id(trainer)] = trainer.end_rollout(request, rollout)


class PolicyTrainer(Trainer):
    """A trainer of one policy of several. Where it doesn't learn, it acts, and nothing of it changes."""

    def __init__(
        self, *arguments: Any, joint: JointCollection, learns: Callable[[int], bool], **parts: Any
    ) -> None:
        """Take a trainer's parts.

        Args:
            arguments: As `Trainer`.
            joint: What collects.
            learns: Whether it learns in an iteration.
            parts: As `Trainer`.
        """
        super().__init__(*arguments, **parts)
        self._joint, self._learns = joint, learns
        self._paused = False
        joint.join(self)

    def rows(self) -> dict[str, Array]:
        """As a trainer, and whether its friends miss rollouts."""
        return super().rows() | {"paused": np.full(self.layout.local, self._paused)}

    def restore_rows(self, rows: Rows) -> None:
        """Go on from what ``rows`` returned."""
        super().restore_rows(rows)
        self._paused = bool(rows["paused"][0])

    def offer(self, actions: Any) -> None:
        """Give the environments the agents' actions."""
        envs: Any = self.collector.envs
        envs.env.offer(actions)

    def collect(self) -> Rollout:
        """Its part of what all collect together."""
        return self._joint.rollout_of(self)

    def end_rollout(self, request: Any, rollout: Rollout) -> Rollout:
        """Friends see what is learned from; others would change the policy by their statistics."""
        if not self._learns(self.iteration):
            self._paused = True
            rollout.restarted = request.reset
            return rollout
        # What friends remember of each row's episode is of before the pause.
        request.reset, self._paused = request.reset or self._paused, False
        return super().end_rollout(request, rollout)

    def train_iteration(self) -> dict[str, float]:
        """Collect, and improve if it is its turn; see `Trainer.train_iteration`."""
        if self._learns(self.iteration + (not self._joint.waits(self))):
            return super().train_iteration()
        rollout = self.collect()
        outputs = rollout.value_outputs["extrinsic"]
        rollout.values["extrinsic"], rollout.returns["extrinsic"] = outputs, outputs[:-1]
        rollout.advantages = torch.zeros_like(rollout.log_probs)
        metrics = self._summary(rollout) | {"explained_variance": float("nan")}
        self.highest.take(metrics | {"timesteps": self.timesteps, "iteration": self.iteration})
        return metrics
