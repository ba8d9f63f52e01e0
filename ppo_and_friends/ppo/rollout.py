"""A rollout: what one rank experienced between two updates, and its division into minibatches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class RewardStream:
    """A reward with a value head of its own."""

    name: str
    """Unique in the run; ``extrinsic`` is the environment's."""

    gamma: float
    """Gamma, per step."""

    gae_lambda: float
    """Lambda of generalised advantage estimation."""

    episodic: bool = True
    """Whether episode ends cut the return; False for RND's stream (arXiv:1810.12894, 2.3)."""

    weight: float = 1.0
    """Of this stream's advantage in the sum that the policy learns from."""


@dataclass
class Rollout:
    """T steps of B environments of one rank.

    The arrays are written in place and used again by the next rollout: copy what you keep.
    """

    observations: Array
    """[T+1, B, *obs], as the network sees them, statistics frozen for the rollout."""

    actions: Array
    """[T, B, *act], as sampled, before clipping or scaling."""

    terminated: Array
    """[T, B] bool: the episode ended, there is no future value."""

    truncated: Array
    """[T, B] bool: cut off, bootstrap from the true final observation."""

    cut: Array
    """[T, B] bool: the advantage trace ends here though the episode goes on."""

    valid: Array
    """[T, B] bool: False where the row is an automatic reset, not experience."""

    finished: Array
    """[T, B] bool: a whole episode ended, so that its score is complete."""

    scores: Array
    """[T, B] float64: the true rewards. For reports only."""

    rewards: dict[str, Array]
    """Stream name to [T, B]. Friends may change and add streams."""

    policy_parameters: Array
    """[T, B, P], of the action distributions the actions were drawn from."""

    log_probs: Array
    """[T, B], of the actions under these distributions."""

    value_outputs: dict[str, Array]
    """Stream name to [T+1, B]: the critic's outputs, in its own units."""

    values: dict[str, Array] = field(default_factory=dict)
    """Stream name to [T+1, B]: predicted returns, in the rewards' units."""

    advantages: Array = field(default_factory=lambda: np.empty(0))
    """[T, B]: weighted sum of the streams' advantages. Set by the estimation."""

    returns: dict[str, Array] = field(default_factory=dict)
    """Stream name to [T, B]: lambda-returns, in the rewards' units. Set by the estimation."""

    value_targets: dict[str, Array] = field(default_factory=dict)
    """Stream name to [T, B]: the returns in the critic's units. Set by the estimation."""

    iteration: int = 0
    """The iteration that collected it, 1-based."""

    restarted: bool = False
    """Whether all environments were started afresh before the first step."""

    @property
    def steps(self) -> int:
        """T."""
        return int(self.actions.shape[0])

    @property
    def num_envs(self) -> int:
        """B."""
        return int(self.actions.shape[1])
