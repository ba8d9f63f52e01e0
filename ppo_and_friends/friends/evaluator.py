"""Friends that test the policy while it is trained, and keep the best one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.evaluation.opponents import Match, RandomPolicy
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.episodes import RECENT, info_means
from ppo_and_friends.ppo.hooks import Controls


class Evaluator(Friend):
    """Play episodes on the canonical environment every so often; end the training at a target score.

    Statistics are frozen and the random numbers are separate ones, so training is unaffected.
    """

    source = "arXiv:1709.06560, section 5"
    only_watches = True
    reported = (
        Metric("score", "Mean return of an evaluation's episodes; blank in iterations without one", "reward"),
        Metric("best", "Largest of these means so far", "reward"),
    )

    due: Tensor
    score: Tensor
    best: Tensor
    _policy: Any

    def __init__(
        self,
        every: int = 50_000,
        episodes: int = 10,
        target: float | None = None,
        deterministic: bool = True,
        share: bool = True,
        opponent: Literal["random"] | None = None,
    ) -> None:
        """Choose when and how to evaluate.

        Args:
            every: Timesteps between two evaluations, >= 1.
            episodes: In an evaluation, >= 1.
            target: Mean score at which training ends; None: train on.
            deterministic: Take the most probable actions; False: sample them.
            share: Divide the episodes among the ranks; False: rank 0 plays them all. The returns are
                the same.
            opponent: Of games, what plays all agents but one, which is the policy, in episode after episode
                another one: ``random`` actions. The win rate is reported, too. None: the policy plays all.
        """
        super().__init__()
        if every < 1 or episodes < 1:
            raise UsageError(f"Evaluator: every and episodes must be at least 1, not {every} and {episodes}.")
        self.every, self.episodes, self.target = every, episodes, target
        self.deterministic, self.share, self.opponent = deterministic, share, opponent
        self.due = self.statistic("due", np.array(float(every)))
        self.score = self.statistic("score", np.array(np.nan))
        self.best = self.statistic("best", np.array(np.nan))
        self._timesteps = self._evaluated = 0
        self._infos: dict[str, float] = {}

    def attach(self, agent: Agent) -> None:
        """Keep the policy, including the other friends' observation transforms."""
        self._policy = agent.policy()
        if self.opponent is not None:
            agents = self.context.agents
            if len(agents) < 2 or self.context.experiment.agents.several:
                raise UsageError("Evaluator: opponent is for games of several agents that share a policy.")
            if agent.network.groups_agents:
                raise UsageError("Evaluator: agents that decide together can't play against an opponent.")
            self._policy = Match(agents, agent.policy, partial(RandomPolicy, self.context.action_space))

    def before_update(self, controls: Controls) -> None:
        """Keep track of the training's progress."""
        self._timesteps = controls.timesteps

    def after_update(self, stats: dict[str, float]) -> None:
        """Evaluate, if an evaluation is due."""
        self.evaluate_if_due()

    def evaluate_if_due(self) -> bool:
        """Evaluate the current policy, unless that is done already or not yet due. A collective.

        Returns:
            Whether ``score`` is that of the current policy.
        """
        if self._evaluated == self._timesteps > 0:
            return True
        if self._timesteps < self.due.item():
            return False
        self._evaluated = self._timesteps
        self.due.fill_((self._timesteps // self.every + 1) * self.every)
        with self.context.stopwatch.measure("evaluation"):
            score = self._play()
        self.score.fill_(score)
        self.best.fill_(np.fmax(score, self.best.item()))
        return True

    def _play(self) -> float:
        """Mean return of new episodes, the same on all ranks."""
        from ppo_and_friends.evaluation.evaluate import evaluate

        communicator = self.context.communicator
        ranks = communicator.size if self.share else 1
        first, last = (
            min(rank, ranks) * self.episodes // ranks for rank in (communicator.rank, communicator.rank + 1)
        )
        returns, infos = np.zeros(0), list[Mapping[str, float]]()
        if last > first:
            seed = int(self.generator(self._timesteps).integers(2**30))
            evaluation = evaluate(
                self.context.in_company(self._policy),
                self.context.experiment.environment,
                episodes=last - first,
                seed=seed + first,
                deterministic=self.deterministic,
            )
            returns, infos = evaluation.returns, [episode.info for episode in evaluation.episodes]
        self._infos = info_means(infos, communicator, anyones=communicator.any(bool(infos)))
        # In the order of the episodes, whichever rank played them, so that the mean is equal to the bit.
        return float(communicator.concatenate(returns).mean())

    def finished(self) -> bool:
        """Whether the last evaluation reached the target."""
        return self.target is not None and self.score.item() >= self.target

    def why_finished(self) -> str:
        """The score that was reached."""
        score = format_value(self.score.item())
        return f"an evaluation's mean score, {score}, reached the target {self.target:g}"

    def metrics(self) -> dict[str, float]:
        """The mean score of this iteration's evaluation, NaN without one, and the best so far."""
        now = self._evaluated == self._timesteps > 0
        score = self.score.item() if now else math.nan
        return {"score": score, "best": self.best.item()} | (self._infos if now else {})


@dataclass(frozen=True)
class Kept:
    """A policy waiting to be written."""

    score: float
    """Mean return of its episodes."""

    timesteps: int
    """Of the run, when it had this policy."""

    tensors: dict[str, Tensor]
    """Copies of the agent's parameters and buffers, by name."""


class BestPolicyKeeper(Friend):
    """Save the policy with the best score so far to `best/` in the run's folder.

    Scores are those of the Evaluator, if there is one; else the mean return of the last 100 training
    episodes, which recent policies played. The policy is written when the run is saved: early in training
    every iteration is the best so far, and writing a file takes longer than an iteration.
    """

    source = "PPO and Friends"
    only_watches = True
    reported = (
        Metric("best", "Mean return for which the kept policy was chosen; blank before the first", "reward"),
    )

    best: Tensor

    def __init__(self) -> None:
        """Start without a policy."""
        super().__init__()
        self.best = self.statistic("best", np.array(np.nan))
        self._timesteps = 0
        self._kept: Kept | None = None

    def attach(self, agent: Agent) -> None:
        """Keep the agent, and find the evaluator."""
        self._agent = agent
        self._evaluators = self.context.others(Evaluator)

    def before_update(self, controls: Controls) -> None:
        """Keep track of the training's progress."""
        self._timesteps = controls.timesteps

    def after_update(self, stats: dict[str, float]) -> None:
        """Keep the policy in memory if there is a new best score."""
        if self._evaluators:
            # Called here, so that the order of the two friends doesn't matter.
            new = self._evaluators[0].evaluate_if_due()
            score = self._evaluators[0].score.item() if new else np.nan
        else:
            # A mean of fewer is of a run's shortest episodes, and a lucky one would decide for good.
            full = stats["episodes"] and stats["episodes_in_mean"] >= RECENT
            score = stats["episode_return_mean_100"] if full else np.nan
        if np.isnan(score) or score <= self.best.item():
            return
        self.best.fill_(score)
        tensors = {name: tensor.detach().clone() for name, tensor in self._agent.tensors().items()}
        self._kept = Kept(float(score), self._timesteps, tensors)

    def before_checkpoint(self) -> None:
        """Write a policy that was kept since the last time, by rank 0. A collective."""
        context, kept = self.context, self._kept
        if context.folder is None or context.save_policy is None or kept is None:
            return
        folder, save_policy = context.folder / "best", context.save_policy

        def save() -> bool:
            try:
                save_policy(folder, kept.tensors, kept.timesteps, kept.score)
            except CheckpointError as error:
                # A failed save must not end the training; the next attempt may succeed.
                warnings.warn(str(error), stacklevel=2)
                return False
            return True

        if on_main(context.communicator, save):
            self._kept = None

    def metrics(self) -> dict[str, float]:
        """The kept policy's score; NaN before the first."""
        return {"best": self.best.item()}
