"""Exploration that is a smooth function of the state instead of noise from step to step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.networks.actor_critic import PolicyHead
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.hooks import RolloutRequest

EPSILON = 1e-6
"""Added to the variance: where all features are 0 the density must stay finite."""


class StateDependentHead(nn.Module):
    r"""A Gaussian policy head with standard deviation :math:`\sqrt{\sum_j \sigma_{ij}^2 \phi_j(s)^2}`."""

    def __init__(self, head: PolicyHead, log_std_init: float) -> None:
        """Take over a head's means.

        Args:
            head: Of a Gaussian policy.
            log_std_init: Log of the standard deviation at first, where features are of size 1.
        """
        super().__init__()
        self.outputs = head.outputs
        actions, features = head.outputs.weight.shape
        start = log_std_init - 0.5 * math.log(features)
        weight = head.outputs.weight
        self.log_std = nn.Parameter(
            torch.full((features, actions), start, dtype=weight.dtype, device=weight.device)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] to [N, 2 A]: means and log standard deviations."""
        # The exploration must not pull on the features: they are the policy's (section 3.1).
        variance = features.detach().square() @ (2.0 * self.log_std).exp() + EPSILON
        return torch.cat((self.outputs(features), 0.5 * variance.log()), dim=-1)

    def noise(self, features: Tensor, weights: Tensor) -> Tensor:
        """Standardised noise: [B, F] and drawn weights [B, F, A] to [B, A] of unit variance each."""
        sigma = self.log_std.exp()
        drawn = torch.einsum("bf,bfa->ba", features, weights * sigma)
        return drawn * torch.rsqrt(features.square() @ sigma.square() + EPSILON)


class StateDependentExploration(Friend):
    """Explore by a random linear function of the policy's features, kept for some steps (gSDE)."""

    source = "arXiv:2005.05719"
    works_with_memory = False
    conflicts = ("CorrelatedNoise",)

    def __init__(self, resample_every: int = 16) -> None:
        """Args: resample_every: Steps for which a rollout keeps its random function, >= 1."""
        super().__init__()
        if resample_every < 1:
            raise UsageError(
                f"StateDependentExploration: resample_every must be at least 1, not {resample_every}."
            )
        self.resample_every = resample_every

    def setup(self, context: FriendContext) -> None:
        """Refuse action spaces that aren't continuous."""
        super().setup(context)
        if not isinstance(context.distribution, Gaussian):
            raise UsageError(
                f"StateDependentExploration needs a Box action space, not {context.action_space}: "
                "use --without StateDependentExploration."
            )

    def adapt(self, network: Model) -> Model:
        """Make the standard deviation a function of the state."""
        network = self.built_in(network)
        head = StateDependentHead(network.policy_head, self.context.experiment.network.log_std_init)
        network.policy_head = head  # type: ignore[assignment]
        self._network, self._head = network, head
        return network

    def before_rollout(self, request: RolloutRequest) -> None:
        """Begin to count the steps."""
        self._iteration, self._step = request.iteration, 0

    def shape_noise(self, noise: Tensor, observations: Tensor) -> Tensor:
        """Replace the noise by the random function's value, which has the same distribution."""
        network, head = self._network, self._head
        if self._step % self.resample_every == 0:
            first, shape = self.context.layout.first, tuple(head.log_std.shape)
            draws = [
                self.generator(self._iteration, first + row, self._step).standard_normal(shape, np.float32)
                for row in range(len(noise))
            ]
            self._weights = torch.from_numpy(np.stack(draws)).to(noise)
        self._step += 1
        return head.noise(network.actor(network.actor_encoder(observations)), self._weights)
