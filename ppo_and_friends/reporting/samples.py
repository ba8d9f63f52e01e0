"""Samples of a rollout for histograms: a few thousand numbers, taken occasionally."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.nested import flattened
from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.ppo.rollout import Rollout

Array = NDArray[Any]

MOST_VALUES = 8192
"""Numbers in a sample; more of them are thinned evenly."""

MOST_DIMENSIONS = 8
"""Action dimensions with a sample of their own; with more, all are put together."""

ROWS_FOR_DEVIATION = 64
"""Rows of a rollout over which the policy's deviation is averaged."""


class SampleClock:
    """Decides when to take samples: at the first report, then every 20th, at the latest after 30 s.

    But never more often than every 5 s, so that quick iterations aren't slowed down.
    """

    def __init__(
        self,
        *,
        every: int = 20,
        least_seconds: float = 5.0,
        most_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set how often."""
        self._every, self._least, self._most, self._clock = every, least_seconds, most_seconds, clock
        self._reports = 0
        self._last: float | None = None

    def due(self) -> bool:
        """Called once a report: whether it should carry samples."""
        self._reports += 1
        if self._last is not None:
            waited = self._clock() - self._last
            if waited < self._least or (self._reports < self._every and waited < self._most):
                return False
        self._reports, self._last = 0, self._clock()
        return True


def thinned(values: Array) -> Array:
    """At most ``MOST_VALUES`` of [n] numbers, evenly spaced."""
    return values[:: -(-len(values) // MOST_VALUES)] if len(values) else values


def samples_of(rollout: Rollout, mapping: ActionMapping) -> dict[str, Array]:
    """This rank's samples of a rollout after its estimation, copies of at most 8192 numbers each.

    Args:
        rollout: Estimated.
        mapping: From stored actions to the environment's.

    Returns:
        By name, [n]: ``observations`` (as the network sees them), ``actions`` (as the environment takes
        them; ``actions/0``, ``actions/1``, ... for a few dimensions), ``advantages``, and for each
        stream ``rewards/<stream>`` and ``values/<stream>``. Nothing where every row is a reset.
    """
    # Rows are thinned before anything is computed from them.
    rows = np.flatnonzero(host_array(rollout.active).reshape(-1))
    if not len(rows):
        return {}
    rows = thinned(rows)

    def flat(tensor: Tensor) -> Array:
        array = host_array(tensor)
        return array.reshape(-1, *array.shape[2:])[rows]

    observations = host_array(rollout.observations["policy"][:-1].flatten(0, 1))
    size = max(1, int(np.prod(observations.shape[1:])))
    few = rows[:: max(1, len(rows) * size // (16 * MOST_VALUES))]
    found = {"observations": thinned(observations[few].reshape(-1))}
    actions = flattened(mapping.to_environment(flat(rollout.actions)), mapping.space)
    if 1 < actions.shape[1] <= MOST_DIMENSIONS:
        found |= {f"actions/{i}": actions[:, i] for i in range(actions.shape[1])}
    else:
        found["actions"] = thinned(actions.reshape(-1))
    found["advantages"] = flat(rollout.advantages)
    for stream, rewards in rollout.rewards.items():
        found[f"rewards/{stream}"] = flat(rewards)
    for stream, values in rollout.values.items():
        found[f"values/{stream}"] = flat(values[:-1])
    return {name: np.array(values, np.float64) for name, values in found.items()}


def action_std(rollout: Rollout, mapping: ActionMapping) -> dict[str, float]:
    """``action_std``, a Gaussian policy's, in the mean and half action ranges; nothing for others."""
    if not isinstance(mapping.distribution, Gaussian) or not isinstance(mapping.space, spaces.Box):
        return {}
    parameters = rollout.policy_parameters.flatten(0, 1)
    step = max(1, len(parameters) // ROWS_FOR_DEVIATION)
    return {"action_std": float(parameters[::step, mapping.distribution.action_size :].exp().mean())}
