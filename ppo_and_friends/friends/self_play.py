"""A friend by which a policy learns from games against itself and its own past versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.opponent_pool import Choice, OpponentPool
from ppo_and_friends.networks.kernels.inference import act_function
from ppo_and_friends.networks.model import Tensors, begun
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Controls, RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.vector.protocol import VectorStep

Array = NDArray[Any]

ITSELF = -1
"""Instead of a slot of the pool: all agents are the policy that learns, and learn."""


class SelfPlay(Friend):
    """Play some of the episodes against past versions of the policy, of which a pool is kept.

    In such an episode one of the agents, at random, is the policy that learns; all others are one snapshot,
    and nothing is learned from what they do. In the other episodes all are the policy that learns. Put it
    first. Snapshots see observations as normalised today.
    """

    source = "arXiv:1710.03748, section 3.1"
    reported = (
        Metric("elo", "Rating of the policy, by its games against snapshots"),
        Metric("win_rate", "Against snapshots, of this iteration's games; a draw counts as half"),
        Metric("win_rate_latest", "Against the newest snapshot, moving mean of about 50 games"),
        Metric("win_rate_oldest", "Against the oldest snapshot kept, moving mean of about 50 games"),
        Metric("games", "Against snapshots, that ended in this iteration"),
        Metric("snapshots", "Taken so far"),
    )

    def __init__(
        self,
        save_steps: int = 50_000,
        window: int = 10,
        opponent: Choice = "uniform",
        play_against_latest_model_ratio: float = 0.5,
        initial_elo: float = 1200.0,
    ) -> None:
        """Choose the opponents.

        Args:
            save_steps: Timesteps between two snapshots, >= 1; the first is taken at the start of the run.
            window: Snapshots in the pool, >= 1; then the oldest is replaced.
            opponent: The snapshot of an episode: the ``latest``, ``uniform`` among all, or by ``win_rate``:
                with a probability that grows with the square of the rate at which the policy doesn't win
                against it.
            play_against_latest_model_ratio: Share of the episodes, in [0, 1], in which all agents are the
                policy that learns.
            initial_elo: Rating at the beginning.
        """
        super().__init__()
        if save_steps < 1 or window < 1:
            raise UsageError(
                f"SelfPlay: save_steps and window must be at least 1, not {save_steps} and {window}."
            )
        if not 0.0 <= play_against_latest_model_ratio <= 1.0:
            raise UsageError(
                "SelfPlay: play_against_latest_model_ratio must be in [0, 1], not "
                f"{play_against_latest_model_ratio}."
            )
        self.save_steps, self.opponent, self.ratio = save_steps, opponent, play_against_latest_model_ratio
        self.pool = OpponentPool(window, initial_elo, self.statistic)
        self.due = self.statistic("due", np.array(float(save_steps)))
        self._timesteps = 0
        self._games, self._score = 0, 0.0

    def setup(self, context: FriendContext) -> None:
        """Refuse agents that have nobody to play against."""
        super().setup(context)
        self._agents = len(context.agents)
        if self._agents < 2:
            raise UsageError("SelfPlay needs several agents that share a policy: use --without SelfPlay.")
        shape = (context.layout.local // self._agents, self._agents)
        self._slots: Array = np.full(shape[0], ITSELF)
        self._numbers: Array = np.zeros(shape[0], np.int64)
        self._seats: Array = np.zeros(shape[0], np.int64)
        self._returns: Array = np.zeros(shape)
        self._reset: Array = np.ones(shape[0], np.bool_)
        self._theirs: Array = np.zeros((context.steps, *shape), np.bool_)
        self._results: list[tuple[float, ...]] = []
        self._states: Tensor | None = None

    def rows(self) -> dict[str, Array]:
        """Who plays whom, each environment's numbers once for each of its agents; returns so far."""
        kept = {"slots": self._slots, "numbers": self._numbers, "seats": self._seats, "reset": self._reset}
        rows = {name: np.repeat(numbers, self._agents) for name, numbers in kept.items()}
        rows["returns"] = self._returns.reshape(-1)
        return rows if self._states is None else rows | {"states": host_array(self._states)}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on with these."""
        own = {name: numbers[:: self._agents].copy() for name, numbers in rows.items()}
        self._slots, self._numbers, self._seats = own["slots"], own["numbers"], own["seats"]
        self._reset = own["reset"]
        self._returns = rows["returns"].reshape(self._returns.shape).copy()
        if "states" in rows:
            self._states = torch.from_numpy(rows["states"].copy()).to(self.context.device)

    def attach(self, agent: Agent) -> None:
        """Make room for the snapshots."""
        self._network = agent.network
        self.pool.allocate(agent.network)
        self._states = None

    def tensors(self) -> dict[str, Tensor]:
        """The pool is saved with the run."""
        return super().tensors() | self.pool.tensors()

    def before_rollout(self, request: RolloutRequest) -> None:
        """Begin an iteration."""
        self._iteration, self._step = request.iteration, 0

    def _prepare(self) -> None:
        """Take the first snapshot, of a policy that all friends have set, such as `InitFrom`."""
        if not self.pool.count.item():
            self.pool.add(self._network, 0)
        fast = self.context.experiment.kernels == "fast"
        self._act = [act_function(each) if fast else each.act for each in self.pool.networks]

    def replace_actions(self, actions: Tensor, seen: Tensors, noise: Tensor, starts: Tensor) -> Tensor:
        """Let snapshots act for their agents."""
        if self._step == 0:
            self._prepare()
        self._begin(host_array(starts).reshape(self._returns.shape))
        theirs = (self._slots != ITSELF)[:, None] & (np.arange(self._agents) != self._seats[:, None])
        self._theirs[self._step] = theirs
        self._step += 1
        if self._states is None:
            self._states = noise.new_zeros((len(noise), self._network.state_size))
        self._states = begun(self._states, starts)
        for slot in np.unique(self._slots[self._slots != ITSELF]).tolist():
            mine = (self._slots == slot)[:, None] & theirs
            rows = torch.from_numpy(np.flatnonzero(mine)).to(actions.device)
            own = {name: tensor[rows] for name, tensor in seen.items()}
            actions[rows], self._states[rows] = self._act[slot](own, self._states[rows], noise[rows])
        return actions

    def _begin(self, starts: Array) -> None:
        """Draw opponents where environments begin episodes, by numbers that don't depend on the layout."""
        first = self.context.layout.first // self._agents
        for e in np.flatnonzero(self._reset | starts.all(axis=1)).tolist():
            draws = self.generator(self._iteration, self._step, first + e)
            self._slots[e], self._seats[e] = ITSELF, draws.integers(self._agents)
            self._returns[e] = 0.0
            if self.pool.filled and draws.random() >= self.ratio:
                self._slots[e] = slot = self.pool.choose(self.opponent, draws)
                self._numbers[e] = self.pool.number(slot)

    def observe(self, step: VectorStep) -> None:
        """Add up returns; whose is larger when nobody is left, and a reset follows, has won."""
        shape = self._returns.shape
        there = step.active if step.waiting is None else step.active | step.waiting
        self._reset = np.logical_not(host_array(there).reshape(shape).any(axis=1))
        self._returns += host_array(step.true_rewards).reshape(shape)
        first = self.context.layout.first // self._agents
        for e in np.flatnonzero(self._reset & (self._slots != ITSELF)).tolist():
            slot, seat = int(self._slots[e]), int(self._seats[e])
            others = np.delete(self._returns[e], seat).mean()
            result = 0.5 + 0.5 * np.sign(self._returns[e, seat] - others)
            self._results.append((self._step, first + e, slot, self._numbers[e], result))

    def after_rollout(self, rollout: Rollout) -> None:
        """Nothing is learned from snapshots' steps; rate the policy by the games that ended. A collective."""
        ours = torch.from_numpy(~self._theirs.reshape(len(self._theirs), -1)).to(rollout.active.device)
        rollout.played = rollout.counted & ours
        rollout.active &= ours
        rollout.finished &= ours
        results = np.array(self._results, np.float64).reshape(-1, 5)
        self._results.clear()
        results = self.context.communicator.concatenate(results)
        results = results[np.lexsort((results[:, 1], results[:, 0]))]
        self._games, self._score = len(results), float(results[:, 4].sum())
        for _, _, slot, number, result in results.tolist():
            if self.pool.number(int(slot)) == number:  # its slot may have got a newer one
                self.pool.take(int(slot), result)

    def before_update(self, controls: Controls) -> None:
        """Keep track of the training's progress."""
        self._timesteps = controls.timesteps

    def after_update(self, stats: dict[str, float]) -> None:
        """Take a snapshot, if one is due."""
        if self._timesteps >= self.due.item():
            self.due.fill_((self._timesteps // self.save_steps + 1) * self.save_steps)
            self.pool.add(self._network, self._timesteps)

    def metrics(self) -> dict[str, float]:
        """Ratings; NaN before the first game."""
        pool, nan = self.pool, float("nan")
        oldest = int(pool.count.item()) % pool.window if pool.filled == pool.window else 0
        return {
            "elo": pool.rating.item(),
            "win_rate": self._score / self._games if self._games else nan,
            "win_rate_latest": pool.win_rates[pool.latest].item() if pool.filled else nan,
            "win_rate_oldest": pool.win_rates[oldest].item() if pool.filled else nan,
            "games": float(self._games),
            "snapshots": pool.count.item(),
        }
