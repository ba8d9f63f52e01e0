"""Proximal policy optimisation: Algorithm 1 of arXiv:1707.06347.

Collect a rollout, estimate advantages, improve the policy. Everything else a run does is elsewhere:
friends change what is learned from, ``session.py`` saves and reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.randomness import Randomness
from ppo_and_friends.errors import PPOError
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.collector import Collector, evaluate_network, split_streams
from ppo_and_friends.ppo.episodes import EpisodeStatistics, EpisodeTracker, Highest, info_means
from ppo_and_friends.ppo.estimators import explained_variance, stream_advantages
from ppo_and_friends.ppo.hooks import Controls, RolloutRequest
from ppo_and_friends.ppo.losses import STATISTICS, GradientFunction, LossFunction
from ppo_and_friends.ppo.minibatches import Minibatch, MinibatchSource, active_counts, slice_bounds
from ppo_and_friends.ppo.optimizer import FlatOptimizer
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.rows import Rows, of_prefix, prefixed
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.schedules import Status

Array = NDArray[Any]

MAX_SKIPPED = 10
"""Consecutive gradient steps that may be skipped because they aren't finite, before the run fails."""


class Trainer:
    """Trains one policy, on this rank's share of the environments."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        communicator: Communicator,
        layout: Layout,
        collector: Collector,
        agent: Agent,
        optimizer: FlatOptimizer,
        stopwatch: Stopwatch,
        loss: LossFunction,
        shortcut: Callable[[Model], GradientFunction | None] | None = None,
    ) -> None:
        """Assemble the parts, which ``build.py`` creates.

        Args:
            experiment: Every setting.
            communicator: The ranks.
            layout: Which environments are this rank's.
            collector: Steps them.
            agent: Network and friends.
            optimizer: Holds the parameters of network and friends.
            stopwatch: Told the time spent in each part of an iteration.
            loss: `losses.ppo_loss`, or what computes the same faster.
            shortcut: Asked before each update for what does without ``loss`` and autograd; it returns None if
                it can't, for this network. None: nothing is asked.
        """
        self.experiment, self.settings = experiment, experiment.ppo
        self.communicator, self.layout = communicator, layout
        self.collector, self.agent, self.optimizer = collector, agent, optimizer
        self.network, self.friends, self.streams = agent.network, agent.friends, agent.streams
        self.distribution, self.stopwatch = agent.mapping.distribution, stopwatch
        self.loss, self._shortcut = loss, shortcut
        self._gradients: GradientFunction | None = None
        self.randomness = Randomness(experiment.random_seed)
        self.tracker = EpisodeTracker(layout)
        self.episodes = EpisodeStatistics()
        self.highest = Highest()
        self.iteration = 0
        self.timesteps = 0
        self._skipped = 0
        steps_per_rollout = collector.steps * layout.total
        wanted = max(1, round(steps_per_rollout / self.settings.minibatch_size))
        self._chunks = collector.steps // collector.sequence_length
        self.num_minibatches = min(wanted, self._chunks)
        self._bounds = slice_bounds(self._chunks, self.num_minibatches)

    @property
    def progress(self) -> float:
        """Share of the timesteps that is done, in [0, 1]."""
        return min(1.0, self.timesteps / self.experiment.num_timesteps)

    @property
    def status(self) -> Status:
        """Progress of the run, for schedules."""
        return Status(self.progress, self.highest.numbers, self.highest.latest)

    def rows(self) -> dict[str, Array]:
        """What collecting goes on from, [B, ...] by name; friends say their own."""
        skipped = np.full(self.layout.local, self._skipped, np.int64)
        return {
            **prefixed("collector", self.collector.rows()),
            **prefixed("episodes", self.tracker.rows()),
            "skipped": skipped,
        }

    def restore_rows(self, rows: Rows) -> None:
        """Go on from what ``rows`` returned."""
        self.collector.restore_rows(of_prefix("collector", rows))
        self.tracker.restore_rows(of_prefix("episodes", rows))
        self._skipped = int(rows["skipped"][0])

    def train_iteration(self) -> dict[str, float]:
        """Collect, estimate, improve.

        Returns:
            The iteration's metrics, equal on all ranks but for the times.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
            PPOError: The gradients were not finite for many steps in a row.
        """
        progress = self.progress
        rollout = self.collect()
        self.estimate(rollout)
        stats = self._summary(rollout)
        controls = self._scheduled_controls(progress, stats)
        with self.stopwatch.measure("update"):
            stats |= self.improve(rollout, controls)
        for name in ("learning_rate", "clip_range", "entropy_coefficient"):
            stats[name] = getattr(controls, name)
        self.friends.after_update(stats)
        metrics = stats | self.friends.metrics()
        self.highest.take(metrics)
        return metrics

    def collect(self) -> Rollout:
        """Run the policy in the environments for T steps (lines 2-3 of Algorithm 1)."""
        request = self.begin_rollout()
        if request.reset:
            self.restart()
        return self.end_rollout(request, self.collector.collect(request))

    def begin_rollout(self) -> RolloutRequest:
        """Begin an iteration: the noise of its rollout, and what friends ask for."""
        self.iteration += 1
        kind, size = self.distribution.noise_kind, self.distribution.noise_size
        noise = self.randomness.noise(kind, self.iteration, self.layout, self.collector.steps, size)
        request = RolloutRequest(noise, self.iteration, self.collector.needs_reset, self.status)
        self.friends.before_rollout(request)
        return request

    def restart(self) -> None:
        """Start all environments afresh."""
        self.collector.reset(self.iteration)
        self.tracker.restart()

    def end_rollout(self, request: RolloutRequest, rollout: Rollout) -> Rollout:
        """Let friends see a rollout, and change what is learned from it."""
        rollout.restarted = request.reset
        self.friends.after_rollout(rollout)
        return rollout

    def estimate(self, rollout: Rollout) -> None:
        """Compute advantages and returns of every reward stream (line 4 of Algorithm 1)."""
        advantages = torch.zeros_like(rollout.true_rewards)
        for stream in self.streams:
            values = self.friends.decode_values(rollout.value_outputs[stream.name], stream.name)
            values = self.friends.adjust_values(values, stream.name)
            advantage = stream_advantages(rollout, stream, values)
            rollout.values[stream.name] = values
            rollout.returns[stream.name] = (advantage + values[:-1]).to(values.dtype)
            advantages += stream.weight * advantage
        rollout.advantages = advantages.to(rollout.log_probs.dtype)
        self.friends.after_estimation(rollout)
        for name, returns in rollout.returns.items():
            rollout.value_targets[name] = self.friends.encode_returns(returns, name)

    def improve(self, rollout: Rollout, controls: Controls) -> dict[str, float]:
        """Optimise the surrogate for several epochs of minibatches (line 6 of Algorithm 1)."""
        self.friends.before_update(controls)
        group = self.network.group_size
        shape = self.layout.over(group), self._chunks
        orders = [
            self.randomness.shuffles(self.iteration, epoch, *shape).repeat(group, axis=1)
            for epoch in range(self.settings.epochs)
        ]
        counts = active_counts(rollout.active, orders, self._bounds)
        self.communicator.sum_(counts)
        source = MinibatchSource(rollout, group)
        self._gradients = self._shortcut(self.network) if self._shortcut else None
        history: list[dict[str, float]] = []
        for epoch, order in enumerate(orders):
            if self.friends.before_epoch(epoch, rollout):
                self.reestimate(rollout)
            taken: list[dict[str, float]] = []
            for minibatch in source.epoch(order, self._bounds, counts[epoch]):
                taken.append(self.improve_on(minibatch, controls))
                if controls.stop:
                    break
            history.append(_mean(taken))
            if self.friends.wants_to_stop(history[-1]) or controls.stop:
                break
        # KL and clip fraction of the last epoch: where the policy ended up, not the mean on the way.
        last = {name: history[-1][name] for name in ("kl", "clip_fraction")}
        return _mean(history) | last | {"epochs": float(len(history))}

    def improve_on(self, minibatch: Minibatch, controls: Controls) -> dict[str, float]:
        """One gradient step; returns its statistics over all ranks."""
        self.friends.before_minibatch(minibatch)
        self.optimizer.zero_gradients()
        coefficients: dict[str, Any] = {
            "clip_range": controls.clip_range,
            "entropy_coefficient": controls.entropy_coefficient,
            "value_coefficient": self.settings.value_coefficient,
            "value_clip_range": self.settings.value_clip_range,
        }
        extra: dict[str, Tensor] = {}
        if self._gradients is not None:
            statistics = self._gradients(minibatch, **coefficients)
        else:
            minibatch.evaluate(self.network)
            extra = self.friends.loss(minibatch)
            total, statistics = self.loss(self.distribution, minibatch, **coefficients)
            sum(extra.values(), start=total).backward()
        named = (*STATISTICS, *extra)
        self.optimizer.statistics[: len(STATISTICS)] = statistics
        for place, term in enumerate(extra.values(), len(STATISTICS)):
            self.optimizer.statistics[place] = term.detach()
        with self.stopwatch.measure("communication"):
            self.optimizer.reduce(self.communicator)
        self.friends.before_step(self.optimizer.gradients)
        stats = dict(zip(named, self.optimizer.statistics.tolist(), strict=False))
        stats["gradient_norm"] = self.optimizer.step(controls.learning_rate)
        self._count_skipped(stats["gradient_norm"])
        self.friends.after_minibatch(stats, controls)
        return stats

    def reestimate(self, rollout: Rollout) -> None:
        """Recompute values, advantages and returns with the current critic (arXiv:2006.05990, 3.5)."""
        _, outputs = evaluate_network(self.network, rollout)
        rollout.value_outputs = split_streams(self.network, outputs)
        self.estimate(rollout)

    def _scheduled_controls(self, progress: float, stats: dict[str, float]) -> Controls:
        """The step sizes of an update, from the progress before it and the numbers of its rollout."""
        settings = self.settings
        self.highest.begin(stats | {"timesteps": self.timesteps, "iteration": self.iteration})
        status = Status(progress, self.highest.numbers, self.highest.latest)
        return Controls(
            learning_rate=settings.learning_rate.value(status, least=0.0),
            clip_range=settings.clip_range.value(status, least=0.0),
            entropy_coefficient=settings.entropy_coefficient.value(status, least=0.0),
            status=status,
            status_after=self.status,
            timesteps=self.timesteps,
        )

    def _summary(self, rollout: Rollout) -> dict[str, float]:
        """Scores, counts and explained variance of a rollout, over all ranks."""
        episodes = self.tracker.update(
            host_array(rollout.true_rewards), host_array(rollout.finished), host_array(rollout.counted)
        )
        active = host_array(rollout.active)
        returns = host_array(rollout.returns["extrinsic"])[active].astype(np.float64)
        errors = returns - host_array(rollout.values["extrinsic"])[:-1][active]
        sums = np.array([active.sum(), errors.sum(), (errors**2).sum(), returns.sum(), (returns**2).sum()])
        sums = np.append(sums, len(rollout.infos))
        self.communicator.sum_(sums)
        stats = self.episodes.summarise(episodes, self.communicator)
        stats |= info_means(rollout.infos, self.communicator, anyones=sums[5] > 0)
        self.timesteps += int(sums[0])
        return stats | {"explained_variance": explained_variance(*sums[:5].tolist())}

    def _count_skipped(self, norm: float) -> None:
        # This is the norm of the reduced gradient, so all ranks count, and give up, together.
        self._skipped = 0 if np.isfinite(norm) else self._skipped + 1
        if self._skipped >= MAX_SKIPPED:
            raise PPOError(
                f"Iteration {self.iteration}: the gradient was not finite in {MAX_SKIPPED} steps in a row. "
                "Lower ppo.learning_rate, or normalise observations and rewards; the last checkpoint is kept."
            )


def _mean(stats: list[dict[str, float]]) -> dict[str, float]:
    """Name by name mean of statistics with the same names."""
    # Not NumPy's: for so few numbers it takes twenty times as long.
    return {name: sum(each[name] for each in stats) / len(stats) for name in stats[0]}
