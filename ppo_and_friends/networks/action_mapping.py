"""From what the policy draws to what the environment takes, for each kind of action space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    SquashedGaussian,
)

Array = NDArray[Any]


class ActionMapping:
    """Maps stored actions [B, A] to an environment's [B, *action shape].

    A Box dimension with two finite bounds is scaled, so that -1 and 1 of the policy are its bounds;
    a half-bounded or unbounded one is taken as it is. Everything is clipped at the bounds, and
    rounded where the space is of integers or bools.

    Attributes:
        space: Of the environment's actions.
        distribution: What the policy draws from.
        squash: Whether actions are squashed with tanh.
        start: [A] int64, the first value of each choice (not for a Box).
        centre: [A] float64, what the policy's 0 is (of a Box).
        half_range: [A] float64, what the policy's 1 is beyond the centre (of a Box).
    """

    def __init__(self, space: spaces.Space[Any], *, squash: bool = False) -> None:
        """Prepare the mapping.

        Args:
            space: The environment's action space.
            squash: Squash with tanh instead of clipping; needs a Box with finite bounds.

        Raises:
            UsageError: The space isn't supported, or can't be squashed into.
        """
        self.space = space
        self.squash = squash and isinstance(space, spaces.Box)
        self._sent: dict[torch.device, tuple[Tensor, ...]] = {}
        self.distribution: Distribution
        if isinstance(space, spaces.Discrete):
            self.distribution = Categorical((int(space.n),))
            self.start: Array = np.array([space.start], dtype=np.int64)
        elif isinstance(space, spaces.MultiDiscrete):
            self.distribution = Categorical(tuple(int(n) for n in space.nvec.reshape(-1)))
            self.start = space.start.reshape(-1).astype(np.int64)
        elif isinstance(space, spaces.MultiBinary):
            self.distribution = Bernoulli(int(np.prod(space.shape)))
            self.start = np.zeros(self.distribution.action_size, dtype=np.int64)
        elif isinstance(space, spaces.Box):
            size = int(np.prod(space.shape))
            self._prepare_box(space)
            self.distribution = SquashedGaussian(size) if self.squash else Gaussian(size)
        else:
            raise UsageError(
                f"Action space {space} is not supported: use Box, Discrete, MultiDiscrete, MultiBinary, or a "
                "Dict or Tuple of those."
            )
        self._tensor_dtype = torch.from_numpy(np.zeros(1, space.dtype)).dtype

    def _prepare_box(self, space: spaces.Box) -> None:
        low = space.low.reshape(-1).astype(np.float64)
        high = space.high.reshape(-1).astype(np.float64)
        # The widest integers and floats stand for "no bound" in some environments.
        bounded = (low > -1e9) & (high < 1e9)
        if self.squash and not bounded.all():
            raise UsageError(f"network.squash needs finite bounds, which {space} lacks: set it to false.")
        # In the space's own floats, so that the clipping needs no conversion.
        real = space.dtype if space.dtype.kind == "f" else np.dtype(np.float64)
        self._low, self._high = low.astype(real), high.astype(real)
        with np.errstate(invalid="ignore"):  # infinities, which aren't used
            self.centre = np.where(bounded, (low + high) / 2.0, 0.0)
            self.half_range = np.where(bounded, (high - low) / 2.0, 1.0)
        self._identity = bool(np.all(self.centre == 0.0) and np.all(self.half_range == 1.0))
        self._integers = bool(space.dtype.kind in "iub")

    def to_environment(self, actions: Array | Tensor) -> Any:
        """Map actions as the policy stores them.

        Args:
            actions: [B, A].

        Returns:
            [B, *action shape] in the space's dtype; a tensor, on the same device, if the actions are.
        """
        if isinstance(actions, Tensor):
            return self._tensors_to_environment(actions)
        space = self.space
        if isinstance(space, spaces.Box):
            if self.squash:
                actions = np.tanh(actions)
            if not self._identity:
                actions = actions.astype(np.float64) * self.half_range + self.centre
            actions = np.minimum(np.maximum(actions, self._low), self._high)
            if self._integers:
                actions = np.rint(actions)
            return actions.astype(space.dtype).reshape(-1, *space.shape)
        actions = actions + self.start
        if isinstance(space, spaces.Discrete):
            return actions[:, 0].astype(space.dtype)
        return actions.astype(space.dtype).reshape(-1, *space.shape)  # type: ignore[misc]

    def _tensors_to_environment(self, actions: Tensor) -> Tensor:
        """As `to_environment`, in double precision where numbers are scaled."""
        space = self.space
        shape = space.shape or ()
        numbers = self._numbers_on(actions.device)
        if isinstance(space, spaces.Box):
            if self.squash:
                actions = actions.tanh()
            centre, half_range, low, high = numbers
            scaled = (actions.double() * half_range + centre).clamp(low, high)
            result = (scaled.round() if self._integers else scaled).to(self._tensor_dtype)
        else:
            result = (actions + numbers[0]).to(self._tensor_dtype)
        return result.unflatten(-1, shape) if shape else result[:, 0]

    def _numbers_on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The mapping's own numbers as tensors, sent to a device once."""
        if device not in self._sent:
            box = isinstance(self.space, spaces.Box)
            names = ("centre", "half_range", "_low", "_high") if box else ("start",)
            dtype = torch.float64 if box else torch.int64
            self._sent[device] = tuple(
                torch.as_tensor(getattr(self, name), dtype=dtype, device=device) for name in names
            )
        return self._sent[device]
