"""The tensors of a rollout, written one step at a time from wherever the engine keeps its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_zeros
from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.vector.protocol import Data, Observations, VectorStep

Array = NDArray[Any]

STEP_FIELDS = ("rewards", "true_rewards", "terminated", "truncated", "active", "finished")
"""What a rollout keeps of a `VectorStep` besides the observations."""


class RolloutStorage:
    """The tensors of one rollout, used again by the next.

    Data come as NumPy arrays or as tensors. Arrays go straight into the tensors' own memory where that is the
    host's; for a GPU into page-locked memory first: observations are sent on at once, since the policy acts
    on them, everything else at once by ``finish``.
    """

    def __init__(
        self,
        steps: int,
        num_envs: int,
        observation_spaces: Mapping[str, spaces.Box],
        distribution: Distribution,
        *,
        sequence_length: int,
        state_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Allocate everything.

        Args:
            steps: T.
            num_envs: B.
            observation_spaces: By name, as the network sees them.
            distribution: Of the actions.
            sequence_length: L, a divisor of T.
            state_size: S, of the model's memory.
            device: Where the network lives.
            dtype: The network's precision.
        """
        shape = (steps, num_envs)
        kinds = dict.fromkeys(STEP_FIELDS, torch.bool) | {"rewards": dtype, "true_rewards": torch.float64}

        def zeros(*size: int, kind: torch.dtype = dtype) -> Tensor:
            return torch.zeros(size, dtype=kind, device=device)

        self._distribution = distribution
        self._steps = {name: zeros(*shape, kind=kind) for name, kind in kinds.items()}
        self._rewards = self._steps["rewards"]
        self.rollout = Rollout(
            observations={
                name: zeros(steps + 1, num_envs, *space.shape, kind=_kind(space, dtype))
                for name, space in observation_spaces.items()
            },
            episode_starts=zeros(steps + 1, num_envs, kind=torch.bool),
            states=zeros(steps // sequence_length + 1, num_envs, state_size),
            actions=zeros(*shape, distribution.action_size, kind=distribution.action_dtype or dtype),
            trace_ends=zeros(*shape, kind=torch.bool),
            rewards={},
            policy_parameters=zeros(*shape, distribution.parameter_size),
            log_probs=zeros(*shape),
            value_outputs={},
            terminated=self._steps["terminated"],
            truncated=self._steps["truncated"],
            active=self._steps["active"],
            finished=self._steps["finished"],
            true_rewards=self._steps["true_rewards"],
        )
        rollout = self.rollout
        self._observations = [
            {name: tensor[t] for name, tensor in rollout.observations.items()} for t in range(steps + 1)
        ]
        self._on_host = device.type == "cpu"
        # NumPy's view of the memory that arrays are written into.
        self._observation_arrays = {
            name: tensor.numpy() if self._on_host else _page_locked(tensor[:1], device)
            for name, tensor in rollout.observations.items()
        }
        self._action_array = rollout.actions.numpy() if self._on_host else None
        self.starts = list(rollout.episode_starts)
        """[B] for each step: `Rollout.episode_starts`."""

        self._starts_array, *arrays = (
            tensor.numpy() if self._on_host else _page_locked(tensor, device)
            for tensor in (rollout.episode_starts, *self._steps.values())
        )
        self._arrays = list(zip(self._steps, arrays, strict=True))
        self._from_arrays = True
        self._waiting: Tensor | None = None

    def begin(self, iteration: int) -> None:
        """A new rollout begins."""
        self.rollout.iteration = iteration
        self.rollout.rewards = {"extrinsic": self._rewards}
        self.rollout.trace_ends.zero_()
        self.rollout.infos = []
        self.rollout.waiting = self.rollout.played = self._waiting = None

    def put_observations(self, t: int, observations: Observations, starts: Data) -> dict[str, Tensor]:
        """Write what is seen at step t, in 0..T.

        Args:
            t: The step.
            observations: By name, [B, *obs] each, after the friends.
            starts: [B] bool, where they are the first ones of an episode.

        Returns:
            The observations as the network takes them, on its device.
        """
        slots = self._observations[t]
        if isinstance(starts, Tensor):
            _write(self.starts[t], starts, "episode_starts")
            for name, slot in slots.items():
                _write(slot, observations[name], name)
            return slots
        self._starts_array[t] = starts
        for name, array in self._observation_arrays.items():
            if self._on_host:
                array[t] = observations[name]
            else:
                # Reused at each step: the actions were fetched by then, so this transfer is complete.
                array[0] = observations[name]
                slots[name].copy_(torch.from_numpy(array[0]), non_blocking=True)
        if not self._on_host:
            self.starts[t].copy_(torch.from_numpy(self._starts_array[t]), non_blocking=True)
        return slots

    def put_actions(self, t: int, actions: Tensor, *, as_array: bool) -> Data:
        """Write the actions [B, A] of step t; returns them as an array if asked to, else unchanged."""
        if not as_array:
            self.rollout.actions[t] = actions
            return actions
        if self._action_array is None:
            self.rollout.actions[t] = actions
            return actions.cpu().numpy()
        array: Array = actions.numpy()
        self._action_array[t] = array
        return array

    def put_step(self, t: int, step: VectorStep) -> None:
        """Write what step t returned, except its observations."""
        self.rollout.infos.extend(step.infos.values())
        if step.waiting is not None:
            if self._waiting is None:
                self._waiting = torch.zeros_like(self.rollout.active)
            self._waiting[t] = torch.as_tensor(step.waiting)
        if isinstance(step.rewards, Tensor):
            self._from_arrays = False
            for name, tensor in self._steps.items():
                _write(tensor[t], getattr(step, name), name)
            return
        for name, array in self._arrays:
            array[t] = getattr(step, name)

    def finish(self, first: int) -> Rollout:
        """The rollout, complete and on its device.

        Args:
            first: Global index of the first environment, for messages.

        Raises:
            EnvironmentFault: A number that came in a tensor isn't finite. This is checked only now, since a
                check at each step would wait for the device. Arrays were checked at their step.
        """
        if not self._from_arrays:
            numbers = {
                "reward": self._rewards,
                "true reward": self.rollout.true_rewards,
                **self.rollout.observations,
            }
            for name, tensor in numbers.items():
                _check_finite(tensor, name, first)
            if "action_mask" in self.rollout.observations:
                self._check_masks(first)
        elif not self._on_host:
            for name, array in self._arrays:
                self._steps[name].copy_(torch.from_numpy(array), non_blocking=True)
        if self._waiting is not None:
            self._take_turns(self._waiting)
        return self.rollout

    def _take_turns(self, waiting: Tensor) -> None:
        """Leave out each row's last turn: its consequences aren't known before the next one.

        Also where the episode ended with it, since to learn from just those would be biased.
        """
        active = self.rollout.active
        self.rollout.waiting, self.rollout.played = waiting, active | waiting
        behind = active.flip(0).cumsum(0).flip(0)  # [T, B], turns from here on
        active &= (behind > 1) | ~waiting.any(0)

    def _check_masks(self, first: int) -> None:
        """Refuse masks that came in tensors and left nothing to do, where something was done."""
        rollout = self.rollout
        masks = rollout.observations["action_mask"][:-1]
        dead_ends = ~self._distribution.any_legal(masks) & rollout.active
        if dead_ends.any():
            t, row = dead_ends.nonzero()[0].tolist()
            raise EnvironmentFault(
                f"environment {first + row}, step {t} of the rollout, action_mask: no action is legal"
            )


def _write(slot: Tensor, data: Tensor, name: str) -> None:
    if data.shape != slot.shape:
        raise EnvironmentFault(f"{name}: batch shape {list(data.shape)}, not {list(slot.shape)}")
    slot.copy_(data)


def _check_finite(tensor: Tensor, name: str, first: int) -> None:
    """Raise for the first number of [T, B, ...] that isn't finite."""
    finite = tensor.isfinite()
    if not finite.all():
        t, row, *index = (~finite).nonzero()[0].tolist()
        value = tensor[(t, row, *index)].item()
        raise EnvironmentFault(
            f"environment {first + row}, step {t} of the rollout, {name}{index or ''}: {value} is not a "
            "finite number"
        )


def _kind(space: spaces.Box, dtype: torch.dtype) -> torch.dtype:
    """What observations of a space are kept as: bytes and bools as they are, numbers as the network's."""
    return {"u": torch.uint8, "b": torch.bool}.get(np.dtype(space.dtype).kind, dtype)


def _page_locked(tensor: Tensor, device: torch.device) -> Array:
    """An array of zeros of a tensor's shape and kind."""
    return host_zeros(tensor.shape, torch.empty(0, dtype=tensor.dtype).numpy().dtype, device)
