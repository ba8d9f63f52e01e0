"""Steps the environments with the current policy and fills a rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.distributed.devices import host_zeros
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.hooks import Hooks, ObservationStream, RolloutRequest
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.vector.protocol import VectorEnv

Array = NDArray[Any]

PolicyFunction = Callable[[torch.Tensor], torch.Tensor]
"""From observations [B, *obs] to distribution parameters [B, P], without gradients."""

EVALUATION_NUMBERS = 2**24
"""Numbers in the observations that the network sees at once when a rollout is evaluated: 64 MiB."""

EVALUATION_ROWS = 2048
"""Most observations at once: more are no faster."""


class Collector:
    """This rank's environments and the observations under way."""

    def __init__(
        self,
        envs: VectorEnv,
        network: Model,
        friends: Hooks,
        mapping: ActionMapping,
        randomness: Randomness,
        layout: Layout,
        *,
        steps: int,
        space: spaces.Box,
        device: torch.device,
        dtype: torch.dtype,
        stopwatch: Stopwatch,
        policy_function: Callable[[Model], PolicyFunction],
    ) -> None:
        """Allocate the rollout's arrays.

        Args:
            envs: This rank's environments.
            network: Actor and critic.
            friends: All friends, set up.
            mapping: From stored actions to the environment's.
            randomness: The run's random streams.
            layout: Which environments these are.
            steps: T, the rollout's length.
            space: Of observations as the network sees them.
            device: Where the network lives.
            dtype: The network's precision.
            stopwatch: Told the time spent in ``environment`` and ``inference``.
            policy_function: Makes of the network what acts during a rollout.
        """
        self.envs, self.network, self.friends = envs, network, friends
        self.mapping, self.randomness, self.layout = mapping, randomness, layout
        self.steps, self.device, self.stopwatch = steps, device, stopwatch
        self._dtype, self._on_cpu = dtype, device.type == "cpu"
        distribution = mapping.distribution
        shape = (steps, layout.local)
        real = torch.empty(0, dtype=dtype).numpy().dtype
        action_dtype = np.int64 if distribution.action_dtype is torch.int64 else real
        observation_dtype = np.uint8 if space.dtype == np.uint8 else real
        self._rollout = Rollout(
            observations=host_zeros((steps + 1, layout.local, *space.shape), observation_dtype, device),
            actions=host_zeros((*shape, distribution.action_size), action_dtype, device),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
            cut=np.zeros(shape, bool),
            valid=np.ones(shape, bool),
            finished=np.zeros(shape, bool),
            scores=np.zeros(shape),
            rewards={},
            policy_parameters=host_zeros((*shape, distribution.parameter_size), real, device),
            log_probs=host_zeros(shape, real, device),
            value_outputs={},
        )
        self._rewards = np.zeros(shape, real)
        self._policy_function = policy_function
        self._policy: PolicyFunction = network.policy
        self._raw: Array | None = None
        self._valid = np.ones(layout.local, bool)
        self._stream = ObservationStream(fresh=np.ones(layout.local, bool))

    def reset(self, iteration: int) -> None:
        """Start all environments afresh, with seeds that follow from the iteration."""
        seed = self.randomness.integer(Purpose.RESET, iteration) + self.layout.first
        self._raw = self.envs.reset(seed)
        self._valid = np.ones(self.layout.local, bool)
        self._stream = ObservationStream(fresh=np.ones(self.layout.local, bool))

    @property
    def rollout(self) -> Rollout:
        """The last one; its arrays are used again by the next."""
        return self._rollout

    @property
    def needs_reset(self) -> bool:
        """Whether the environments were never started."""
        return self._raw is None

    @torch.no_grad()
    def collect(self, request: RolloutRequest) -> Rollout:
        """Step T times; then evaluate the network on everything that was seen.

        Args:
            request: The rollout's noise, after the friends saw it.

        Returns:
            The rollout, whose arrays are used again by the next call.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        rollout = self._rollout
        rollout.iteration = request.iteration
        rollout.rewards = {"extrinsic": self._rewards}
        assert self._raw is not None
        raw, valid, stream = self._raw, self._valid, self._stream
        noise = torch.from_numpy(request.noise).to(self.device, self._dtype)
        self._policy = self._policy_function(self.network)
        timer = self.stopwatch
        for t in range(self.steps):
            with timer.measure("inference"):
                rollout.observations[t] = self.friends.transform(raw, stream)
                actions = self._act(rollout.observations[t], noise[t])
                rollout.actions[t] = actions
            with timer.measure("environment"):
                step = self.envs.step(self.mapping.to_environment(actions))
            rollout.valid[t] = valid
            self._rewards[t] = step.rewards
            rollout.terminated[t] = step.terminated
            rollout.truncated[t] = step.truncated
            rollout.cut[t] = step.resets
            rollout.scores[t] = step.scores
            rollout.finished[t] = step.finished
            self.friends.observe(step)
            # The row after a reset row carries the first observation of an episode.
            stream.fresh = ~valid
            stream.last_actions = actions
            raw, valid = step.observations, ~step.resets
        # The last observation is transformed again by the next rollout, with other statistics.
        memory = copy.deepcopy(stream.memory)
        rollout.observations[self.steps] = self.friends.transform(raw, stream)
        stream.memory = memory
        self._raw, self._valid = raw.copy(), valid
        with timer.measure("inference"):
            self._evaluate(rollout)
        return rollout

    @torch.inference_mode()
    def _act(self, observations: Array, noise: torch.Tensor) -> Array:
        inputs = torch.from_numpy(observations).to(self.device, non_blocking=True)
        parameters = self._policy(inputs)
        noise = self.friends.shape_noise(noise, inputs)
        return self.mapping.distribution.sample(parameters, noise).cpu().numpy()

    @torch.inference_mode()
    def _evaluate(self, rollout: Rollout) -> None:
        """Policy parameters, log probabilities and values of a whole rollout, in large batches."""
        distribution = self.mapping.distribution
        parameters, outputs = evaluate_network(self.network, rollout.observations, self.device)
        parameters = parameters[:-1]
        actions = torch.from_numpy(rollout.actions).to(self.device)
        rollout.policy_parameters[:] = parameters.cpu().numpy()
        rollout.log_probs[:] = distribution.log_prob(parameters, actions).cpu().numpy()
        rollout.value_outputs = split_streams(self.network, outputs)


@torch.inference_mode()
def evaluate_network(
    network: Model, observations: Array, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the network over a rollout's observations, a bounded number at a time.

    Args:
        network: Actor and critic.
        observations: [T+1, B, *obs].
        device: Where the network lives.

    Returns:
        Policy parameters [T+1, B, P] and value outputs [T+1, B, S].
    """
    lead = observations.shape[:2]
    flat = torch.from_numpy(observations).flatten(0, 1)
    rows_at_once = max(1, min(EVALUATION_ROWS, EVALUATION_NUMBERS // flat[0].numel()))
    parts = [network(rows.to(device, non_blocking=True)) for rows in flat.split(rows_at_once)]
    parameters = torch.cat([part[0] for part in parts])
    outputs = torch.cat([part[1] for part in parts])
    return parameters.unflatten(0, lead), outputs.unflatten(0, lead)


def split_streams(network: Model, outputs: torch.Tensor) -> dict[str, Array]:
    """Value outputs [T+1, B, S] as an array [T+1, B] for each reward stream."""
    array = outputs.cpu().numpy()
    return {name: array[..., index].copy() for index, name in enumerate(network.streams)}
