"""The policy that acts in an evaluation: encoded observations in, the environment's actions out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.model import PRESENT, Model, begun
from ppo_and_friends.ppo.hooks import EpisodeHistory, Hooks, transformed
from ppo_and_friends.vector.protocol import Data, Observations

Array = NDArray[Any]


class ActingPolicy:
    """Network, friends' observation transforms (statistics as they are) and action mapping."""

    def __init__(
        self,
        network: Model,
        friends: Hooks,
        mapping: ActionMapping,
        *,
        device: torch.device,
        dtype: torch.dtype,
        masked: bool = False,
    ) -> None:
        """Wrap the parts of a trainer, without copying them.

        Args:
            network: Actor and critic.
            friends: All friends, set up.
            mapping: From stored actions to the environment's.
            device: Where the network lives.
            dtype: The network's precision.
            masked: Whether it is told which actions are legal; if not, masks are ignored.
        """
        self.network, self.friends, self.mapping = network, friends, mapping
        self._device, self._dtype, self._masked = device, dtype, masked
        self._needs = ("policy", *["action_mask"] * masked, *[PRESENT] * network.groups_agents)
        self._history: EpisodeHistory | None = None
        self._state = torch.empty(0)
        self._generator = np.random.default_rng(0)

    @property
    def group_size(self) -> int:
        """How many agents decide together; 1: each by itself."""
        return self.network.group_size

    def reset(self, seed: int | None = None, rows: Array | None = None) -> None:
        """Begin new episodes.

        Args:
            seed: Of the random actions, if these are sampled; None: keep the current random state.
            rows: [B] bool, the rows in which episodes begin; the others continue. None: all rows.
        """
        if rows is None:
            self._history = None
        elif self._history is not None:
            self._history.episode_starts = _like(np.asarray(rows, bool), self._history.episode_starts)
        if seed is not None:
            self._generator = np.random.default_rng(seed)

    @torch.inference_mode()
    def act(self, observations: Observations, deterministic: bool = True) -> Data:
        """Choose actions.

        Args:
            observations: By name, [B, *obs] each, encoded as the vector environments do. What the critic
                alone sees isn't needed, the ``action_mask`` is if there was one in training, and `PRESENT` if
                the network takes the agents of an environment together.
            deterministic: The most probable action; False: sample one.

        Returns:
            [B, *action shape], as the environment takes them; a tensor if the observations are.

        Raises:
            UsageError: It isn't told which actions are legal, as it was in training.
        """
        if self._masked and "action_mask" not in observations:
            raise UsageError(
                "The policy was trained with action masks, but isn't told which actions are legal: see "
                "environment.action_masks."
            )
        policy = observations["policy"]
        rows = len(policy)
        if self._history is None:
            starts = np.ones(rows, bool)
            self._history = EpisodeHistory(_like(starts, policy))
            size = self.network.policy_state_size
            self._state = torch.zeros((rows, size), device=self._device, dtype=self._dtype)
        seen = transformed(self.friends, observations, self._history)
        inputs = {name: self._input(data) for name, data in seen.items() if name in self._needs}
        state = begun(self._state, torch.as_tensor(self._history.episode_starts, device=self._device))
        noise = None if deterministic else self._noise(rows)
        actions, self._state = self.network.act(inputs, state, noise)
        stored: Data = actions if isinstance(policy, Tensor) else host_array(actions)
        self._history.episode_starts = _like(np.zeros(rows, bool), policy)
        self._history.last_actions = stored
        return self.mapping.to_environment(stored)

    def _noise(self, rows: int) -> Tensor:
        distribution = self.mapping.distribution
        shape = (rows, distribution.noise_size)
        normal = distribution.noise_kind == "normal"
        noise = self._generator.standard_normal(shape) if normal else self._generator.random(shape)
        return torch.from_numpy(noise).to(self._device, self._dtype)

    def _input(self, data: Data) -> Tensor:
        """As a tensor on the network's device, in its precision."""
        tensor = torch.as_tensor(data).to(self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


def _like(array: Array, data: Data) -> Data:
    """The array in the form of ``data``: a tensor on its device, if it is a tensor."""
    return torch.from_numpy(array).to(data.device) if isinstance(data, Tensor) else array
