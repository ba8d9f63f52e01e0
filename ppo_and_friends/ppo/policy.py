"""A trained policy as a plain object: observations in, actions out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.hooks import Hooks, ObservationStream

Array = NDArray[Any]


class Policy:
    """Network, friends' observation transforms (statistics as they are) and action mapping."""

    def __init__(
        self,
        network: Model,
        friends: Hooks,
        mapping: ActionMapping,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Wrap the parts of a trainer; they are used, not copied."""
        self.network, self.friends, self.mapping = network, friends, mapping
        self._device, self._dtype = device, dtype
        self._stream: ObservationStream | None = None
        self._generator = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> None:
        """Begin new episodes in every row.

        Args:
            seed: Of the actions' randomness, if they are to be drawn; None: go on with it.
        """
        self._stream = None
        if seed is not None:
            self._generator = np.random.default_rng(seed)

    @torch.inference_mode()
    def act(self, observations: Array, deterministic: bool = True) -> Array:
        """Choose actions.

        Args:
            observations: [B, *obs], encoded as the vector environments do.
            deterministic: The most probable action; False: draw one.

        Returns:
            [B, *action shape], as the environment takes them.
        """
        observations = np.asarray(observations)
        rows = len(observations)
        if self._stream is None:
            self._stream = ObservationStream(fresh=np.ones(rows, bool))
        seen = np.array(self.friends.transform(observations, self._stream))
        inputs = torch.from_numpy(seen).to(self._device)
        if inputs.is_floating_point():
            inputs = inputs.to(self._dtype)
        parameters = self.network.policy(inputs)
        distribution = self.mapping.distribution
        if deterministic:
            actions = distribution.mode(parameters)
        else:
            shape = (rows, distribution.noise_size)
            normal = distribution.noise_kind == "normal"
            noise = self._generator.standard_normal(shape) if normal else self._generator.random(shape)
            actions = distribution.sample(parameters, torch.from_numpy(noise).to(parameters))
        stored = actions.cpu().numpy()
        self._stream.fresh = np.zeros(rows, bool)
        self._stream.last_actions = stored
        return self.mapping.to_environment(stored)
