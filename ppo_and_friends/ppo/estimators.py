"""Advantages and returns: pure functions of [T, B] arrays.

The recursions run step by step on the host, where a step of a few numbers is cheapest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.ppo.rollout import RewardStream, Rollout

Array = NDArray[Any]


def stream_advantages(rollout: Rollout, stream: RewardStream, values: Tensor) -> Tensor:
    """Generalised advantages of one reward stream of a rollout.

    Args:
        rollout: Whose rewards and episode ends are used.
        stream: Which rewards, and how they are discounted.
        values: [T+1, B], of every observation, in the rewards' units.

    Returns:
        [T, B], on the rollout's device.
    """
    trace_ends = rollout.trace_ends | rollout.truncated if stream.episodic else rollout.trace_ends
    advantages = generalized_advantages(
        host_array(rollout.rewards[stream.name]),
        host_array(values),
        host_array(rollout.terminated),
        host_array(trace_ends),
        host_array(rollout.active),
        waiting=None if rollout.waiting is None else host_array(rollout.waiting),
        gamma=stream.gamma,
        gae_lambda=stream.gae_lambda,
        episodic=stream.episodic,
    )
    return torch.from_numpy(advantages).to(values.device)


def generalized_advantages(
    rewards: Array,
    values: Array,
    terminated: Array,
    trace_ends: Array,
    valid: Array,
    *,
    gamma: float,
    gae_lambda: float,
    episodic: bool = True,
    waiting: Array | None = None,
) -> Array:
    r"""Generalised advantage estimation (arXiv:1506.02438, eq. 16), truncated at episode ends.

    .. math::
        \delta_t &= r_t + \gamma (1 - terminated_t) V(s_{t+1}) - V(s_t) \\
        A_t &= \delta_t + \gamma \lambda (1 - terminated_t) (1 - end_t) A_{t+1}

    A truncated step ends the trace without being terminated: it bootstraps from the value of the episode's
    true final observation, which next-step autoreset leaves in ``values[t + 1]``.

    Args:
        rewards: [T, B], the reward of the step from s_t to s_{t+1}.
        values: [T+1, B], V of every observation, the last one included.
        terminated: [T, B] bool, s_{t+1} has no future.
        trace_ends: [T, B] bool, the trace ends after t: ends of segments, and truncations where these count.
        valid: [T, B] bool, False where row t is an automatic reset. Its advantage is 0.
        gamma: Gamma in [0, 1].
        gae_lambda: Lambda in [0, 1].
        episodic: False: terminations are ignored, as for RND's stream (arXiv:1810.12894, 2.3).
            The trace passes a reset row as if no time went by.
        waiting: [T, B] bool, rows that aren't valid since it was another agent's turn; None: there are none.
            An action's next state is that of the agent's next turn, its reward all that comes until then.

    Returns:
        [T, B] advantages. Add ``values[:-1]`` for the lambda-returns.
    """
    steps = rewards.shape[0]
    if values.shape[0] != steps + 1:
        raise ValueError(f"values need one row more than rewards: got {values.shape[0]} and {steps}")
    if episodic and waiting is not None:
        return _advantages_of_turns(
            rewards, values, terminated, trace_ends, valid, waiting, gamma=gamma, gae_lambda=gae_lambda
        )
    if episodic:
        future = gamma * ~terminated
        deltas = rewards + future * values[1:] - values[:-1]
        decay = future * gae_lambda * ~trace_ends
        deltas *= valid
        decay *= valid
    else:
        deltas = np.where(valid, rewards + gamma * values[1:], values[1:]) - values[:-1]
        decay = np.where(valid, gamma * gae_lambda * ~trace_ends, 1.0).astype(values.dtype)
    advantages = np.empty_like(deltas)
    trace = np.zeros_like(deltas[0])
    for t in range(steps - 1, -1, -1):
        trace = deltas[t] + decay[t] * trace
        advantages[t] = trace
    if not episodic:
        advantages *= valid
    return advantages


def _advantages_of_turns(
    rewards: Array,
    values: Array,
    terminated: Array,
    trace_ends: Array,
    valid: Array,
    waiting: Array,
    *,
    gamma: float,
    gae_lambda: float,
) -> Array:
    """As `generalized_advantages`, where time stands still for agents that wait."""
    advantages = np.zeros_like(values[:-1])
    following, trace, owed = values[-1], np.zeros_like(values[0]), np.zeros_like(rewards[0])
    ended, trace_ended = np.zeros_like(terminated[0]), np.zeros_like(terminated[0])
    for t in range(len(rewards) - 1, -1, -1):
        waits, over = waiting[t], terminated[t] | trace_ends[t]
        future = gamma * ~(terminated[t] | ended)
        delta = rewards[t] + owed + future * following - values[t]
        advantages[t] = valid[t] * (delta + future * gae_lambda * ~(trace_ends[t] | trace_ended) * trace)
        # What follows the last turn before: from the next one, or from here if the episode ends here.
        owed = np.where(waits, rewards[t] + np.where(over, 0.0, owed), 0.0)
        ended = waits & (terminated[t] | (ended & ~over))
        trace_ended = waits & (trace_ends[t] | (trace_ended & ~over))
        following = np.where(waits, np.where(over, values[t + 1], following), values[t])
        trace = np.where(waits, np.where(over, 0.0, trace), advantages[t])
    return advantages


def discounted_sums(rewards: Array, ends: Array, carried: Array, *, gamma: float) -> Array:
    r"""Running discounted sums of past rewards, :math:`R_t = \gamma R_{t-1} + r_t`.

    Args:
        rewards: [T, B].
        ends: [T, B] bool, the sum starts afresh after this step.
        carried: [B], the sums before the first step.
        gamma: Gamma in [0, 1].

    Returns:
        [T, B] sums, each including its own step's reward.
    """
    sums = np.empty(rewards.shape, dtype=np.float64)
    running = np.asarray(carried, dtype=np.float64)
    for t in range(rewards.shape[0]):
        running = gamma * running + rewards[t]
        sums[t] = running
        running = np.where(ends[t], 0.0, running)
    return sums


def explained_variance(
    count: float, error_sum: float, error_square: float, return_sum: float, return_square: float
) -> float:
    """Share of the returns' variance that the values explain: 1 - Var(R - V) / Var(R).

    Args:
        count: Number of samples.
        error_sum: Sum of R - V.
        error_square: Sum of (R - V)^2.
        return_sum: Sum of R.
        return_square: Sum of R^2.

    Returns:
        1 for perfect values, 0 for no better than a constant; NaN when the returns don't vary, or
        there are none.
    """
    if count == 0:
        return float("nan")
    variance = return_square / count - (return_sum / count) ** 2
    error_variance = error_square / count - (error_sum / count) ** 2
    if variance <= 1e-12 * max(1.0, return_square / count):
        return float("nan")
    return 1.0 - error_variance / variance
