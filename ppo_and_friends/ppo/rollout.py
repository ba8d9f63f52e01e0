"""A rollout: one rank's experience between two updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


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
    """T steps of B rows of one rank, as tensors on the agent's device.

    They are written in place and reused by the next rollout: copy what you keep.
    """

    observations: dict[str, Tensor]
    """By name, [T+1, B, *obs] each, as the network sees them, statistics frozen for the rollout."""

    episode_starts: Tensor
    """[T+1, B] bool: the observation is the first one of an episode."""

    states: Tensor
    """[C+1, B, S], of the model's memory at the start of each of C chunks of T / C steps, and after the last;
    S is 0 for models without memory."""

    actions: Tensor
    """[T, B, *act], as sampled, before clipping or scaling."""

    terminated: Tensor
    """[T, B] bool: the episode ended, there is no future value."""

    truncated: Tensor
    """[T, B] bool: cut off, bootstrap from the true final observation."""

    trace_ends: Tensor
    """[T, B] bool: the advantage trace ends here though the episode goes on. Friends set it."""

    active: Tensor
    """[T, B] bool: False where the row is an automatic reset, not experience."""

    finished: Tensor
    """[T, B] bool: a whole episode ended, so that its return is complete."""

    true_rewards: Tensor
    """[T, B] float64: what the environment itself paid, neither clipped nor scaled. For reports only."""

    rewards: dict[str, Tensor]
    """Stream name to [T, B]. Friends may change and add streams."""

    policy_parameters: Tensor
    """[T, B, P], of the action distributions the actions were drawn from."""

    log_probs: Tensor
    """[T, B], of the actions under these distributions."""

    value_outputs: dict[str, Tensor]
    """Stream name to [T+1, B]: the critic's outputs, in its own units."""

    values: dict[str, Tensor] = field(default_factory=dict)
    """Stream name to [T+1, B]: predicted returns, in the rewards' units."""

    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    """[T, B]: weighted sum of the streams' advantages. Set by the estimation."""

    returns: dict[str, Tensor] = field(default_factory=dict)
    """Stream name to [T, B]: lambda-returns, in the rewards' units. Set by the estimation."""

    value_targets: dict[str, Tensor] = field(default_factory=dict)
    """Stream name to [T, B]: the returns in the critic's units. Set by the estimation."""

    iteration: int = 0
    """The iteration that collected it, 1-based."""

    waiting: Tensor | None = None
    """[T, B] bool: not active, since it was another agent's turn; what happened is a consequence of the last
    action. None: nobody waits."""

    played: Tensor | None = None
    """[T, B] bool: steps that belong to an episode, whether they are learned from or not; None: the active
    ones."""

    infos: list[Mapping[str, float]] = field(default_factory=list)
    """Numbers that environments reported where whole episodes ended, one entry an episode."""

    restarted: bool = False
    """Whether all environments were reset before the first step, or friends missed the rollout before."""

    @property
    def counted(self) -> Tensor:
        """[T, B] bool: steps of which scores and lengths of episodes are made."""
        return self.active if self.played is None else self.played

    @property
    def steps(self) -> int:
        """T."""
        return int(self.actions.shape[0])

    @property
    def num_envs(self) -> int:
        """B."""
        return int(self.actions.shape[1])

    @property
    def sequence_length(self) -> int:
        """L, the steps of a chunk: T / C."""
        return self.steps // (len(self.states) - 1)


def in_chunks(tensor: Tensor, length: int) -> Tensor:
    """Steps [C * L, B, ...] as chunks [L, C * B, ...]: column c * B + b is chunk c of row b."""
    if length == 1:
        return tensor.flatten(0, 1).unsqueeze(0)
    chunks: Tensor = tensor.unflatten(0, (-1, length))
    return chunks.transpose(0, 1).flatten(1, 2)


def in_steps(chunks: Tensor, num_envs: int) -> Tensor:
    """Undoes `in_chunks`: [L, C * B, ...] to [C * L, B, ...]."""
    steps: Tensor = chunks.unflatten(1, (-1, num_envs))
    return steps.transpose(0, 1).flatten(0, 1)
