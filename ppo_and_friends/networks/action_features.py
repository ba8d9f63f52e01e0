"""Actions as inputs of networks."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from ppo_and_friends.common.nested import parts
from ppo_and_friends.networks.distributions import Categorical, Distribution, Gaussian, SquashedGaussian
from ppo_and_friends.networks.joint import Joint


class ActionFeatures(nn.Module):
    """Stored actions as numbers near [-1, 1]: one-hot choices, yes-or-no as 0 or 1, Box actions.

    Box actions are taken as the environment gets them: squashed, or clipped at their bounds. Those of nested
    spaces are the features of their parts, one after the other.

    Attributes:
        size: Number of features.
        guess_size: Numbers with which a model guesses an action, see `mismatch`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, distribution: Distribution, space: spaces.Space[Any] | None = None) -> None:
        """Fit to what the policy draws from; without the space, nothing is clipped."""
        super().__init__()
        self.distribution = distribution
        self.joint = distribution if isinstance(distribution, Joint) else None
        self.parts = nn.ModuleList()
        if self.joint is not None:
            own_parts = self.joint.parts
            own_spaces = [None] * len(own_parts) if space is None else [part for _, part in parts(space)]
            nested = zip(own_parts, own_spaces, strict=True)
            self.parts.extend(ActionFeatures(own, part) for own, part in nested)
        self.choices = distribution.choices if isinstance(distribution, Categorical) else ()
        self.size = sum(self.choices) or distribution.action_size
        if self.joint is not None:
            self.size = sum(part.size for part in self._parts())
        self.squashed = isinstance(distribution, SquashedGaussian)
        self.continuous = isinstance(distribution, Gaussian)
        self.guess_size = self.size if self.continuous else distribution.parameter_size
        if self.joint is not None:
            self.guess_size = sum(part.guess_size for part in self._parts())
        low, high = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        if isinstance(space, spaces.Box):
            # Dimensions with two bounds are scaled to [-1, 1]; the others have units of their own.
            bounded = ((space.low > -1e9) & (space.high < 1e9)).reshape(-1)
            low[bounded], high[bounded] = -1.0, 1.0
        self.register_buffer("low", torch.tensor(low), persistent=False)
        self.register_buffer("high", torch.tensor(high), persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        """[N, A] to [N, size]; integers become float32."""
        if self.joint is not None:
            own = zip(self._parts(), self.joint.actions_of_parts(actions), strict=True)
            return torch.cat([part(each) for part, each in own], dim=-1)
        if self.choices:
            parts = [functional.one_hot(actions[:, i], n) for i, n in enumerate(self.choices)]
            return torch.cat(parts, dim=-1).float()
        if not self.continuous:
            return actions.float()
        if self.squashed:
            return actions.tanh()
        return actions.clamp(self.low.to(actions), self.high.to(actions))

    def bounds(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Lowest and highest values of the features, [size] each."""
        if self.joint is not None:
            low, high = zip(*(part.bounds() for part in self._parts()), strict=True)
            return np.concatenate(low), np.concatenate(high)
        if self.continuous:
            return self.low.numpy(), self.high.numpy()
        return np.zeros(self.size), np.ones(self.size)

    def mismatch(self, guess: Tensor, actions: Tensor) -> Tensor:
        """[N], how far a guess is from the actions: half the squared error of numbers, -log p of choices.

        Args:
            guess: [N, guess_size]: the features themselves, or parameters of the choices' distribution.
            actions: [N, A], as stored.
        """
        if self.joint is not None:
            guesses = guess.split([part.guess_size for part in self._parts()], -1)
            own = zip(self._parts(), guesses, self.joint.actions_of_parts(actions), strict=True)
            return torch.stack([part.mismatch(each, taken) for part, each, taken in own]).sum(0)
        if self.continuous:
            errors: Tensor = guess - self(actions).to(guess)
            return 0.5 * errors.square().sum(-1)
        return -self.distribution.log_prob(guess, actions)

    def _parts(self) -> list[ActionFeatures]:
        return [cast(ActionFeatures, part) for part in self.parts]
