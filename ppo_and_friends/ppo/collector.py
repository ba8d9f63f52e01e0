"""Steps the environments with the current policy and fills a rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.distributed.grace import Deadline, RolloutGivenUp
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.model import ACTIONS, Model, Tensors, begun, legal
from ppo_and_friends.ppo.hooks import Episode, EpisodeHistory, Hooks, RolloutRequest, transformed
from ppo_and_friends.ppo.rollout import Rollout, in_chunks, in_steps
from ppo_and_friends.ppo.rows import Rows, as_data, history_rows, of_prefix, prefixed, restored_history
from ppo_and_friends.ppo.stopwatch import Stopwatch
from ppo_and_friends.ppo.storage import RolloutStorage
from ppo_and_friends.vector.protocol import Data, Observations, Task, VectorEnv, VectorStep

Array = NDArray[Any]

ActFunction = Callable[[Tensors, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""As `Model.act`, without gradients."""

EVALUATION_NUMBERS = 2**24
"""Most numbers of observations in one batch when a rollout is evaluated: 64 MiB."""

EVALUATION_ROWS = 2048
"""Most observations in one batch: larger batches are no faster."""


class Collector:
    """Steps this rank's environments; holds their current observations."""

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
        sequence_length: int,
        spaces: Mapping[str, spaces.Box],
        device: torch.device,
        dtype: torch.dtype,
        stopwatch: Stopwatch,
        act_function: Callable[[Model], ActFunction],
    ) -> None:
        """Allocate the rollout.

        Args:
            envs: This rank's environments.
            network: Actor and critic.
            friends: All friends, set up.
            mapping: From stored actions to the environment's.
            randomness: The run's random numbers.
            layout: Which environments these are.
            steps: T, the rollout's length.
            sequence_length: L, consecutive steps that are learned from together; a divisor of T.
            spaces: Of observations as the network sees them, by name.
            device: Where the network lives.
            dtype: The network's precision.
            stopwatch: Told the time spent in ``environment`` and ``inference``.
            act_function: Turns the network into the function that acts during a rollout.
        """
        self.envs, self.network, self.friends = envs, network, friends
        self.mapping, self.randomness, self.layout = mapping, randomness, layout
        self.steps, self.sequence_length = steps, sequence_length
        self.device, self.stopwatch = device, stopwatch
        self._dtype = dtype
        self._storage = RolloutStorage(
            steps,
            layout.local,
            spaces,
            mapping.distribution,
            sequence_length=sequence_length,
            state_size=network.state_size,
            device=device,
            dtype=dtype,
        )
        self._act_function = act_function
        self._since, self._begun = 0, np.zeros(layout.local, np.int64)
        self._raw: Observations | None = None
        self.deadline: Deadline | None = None
        """When the job ends, if that is known; the same on all ranks."""
        self._history = EpisodeHistory(episode_starts=np.ones(layout.local, bool))
        self._state = torch.zeros_like(self.rollout.states[-1])

    def reset(self, iteration: int) -> None:
        """Reset all environments, with seeds derived from the iteration."""
        self._since, self._begun[:] = iteration, 0
        seed = self.randomness.integer(Purpose.RESET, iteration) + self.layout.first
        self._raw = self.envs.reset(seed)
        starts = np.ones(self.layout.local, bool)
        on_device = self.envs.device is not None
        self._history = EpisodeHistory(torch.from_numpy(starts).to(self.envs.device) if on_device else starts)

    def task_of(self, row: int) -> Task:
        """What the friends ask of a row's environment in the episode that it begins now."""
        episode = Episode(self.layout.first + row, self._since, int(self._begun[row]))
        self._begun[row] += 1
        return self.friends.choose_task(Task(), episode)

    @property
    def rollout(self) -> Rollout:
        """The last rollout; the next one reuses its tensors."""
        return self._storage.rollout

    @property
    def needs_reset(self) -> bool:
        """Whether the environments have never been reset."""
        return self._raw is None

    def rows(self) -> dict[str, Array]:
        """What goes on from this rollout to the next, [B, ...] by name."""
        assert self._raw is not None
        # What the network doesn't see isn't needed.
        observations = {name: host_array(self._raw[name]) for name in self.rollout.observations}
        return {
            **prefixed("observations", observations),
            **prefixed("history", history_rows(self._history)),
            "state": host_array(self._state),
            "begun": self._begun.copy(),
            "since": np.full(self.layout.local, self._since, np.int64),
        }

    def restore_rows(self, rows: Rows) -> None:
        """Go on from what ``rows`` returned; the environments' states are set besides."""
        device = self.envs.device
        self._raw = {name: as_data(array, device) for name, array in of_prefix("observations", rows).items()}
        self._history = restored_history(of_prefix("history", rows), device)
        self._state = torch.from_numpy(rows["state"].copy()).to(self._state)
        self._begun, self._since = rows["begun"].copy(), int(rows["since"][0])

    def collect(self, request: RolloutRequest) -> Rollout:
        """Step T times, then evaluate the network on all observations of the rollout.

        Args:
            request: The rollout's exploration noise, after the friends changed it.

        Returns:
            The rollout; the next call reuses its tensors.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
            RolloutGivenUp: On all ranks, if the job ends before.
        """
        steps = self.collecting(request)
        actions = next(steps)
        while True:
            with self.stopwatch.measure("environment"):
                step = self.envs.step(actions)
            try:
                actions = steps.send(step)
            except StopIteration as done:
                rollout: Rollout = done.value
                return rollout

    @torch.no_grad()
    def collecting(self, request: RolloutRequest) -> Generator[Data, VectorStep, Rollout]:
        """As ``collect``, where somebody else steps the environments.

        Args:
            request: As there.

        Yields:
            The actions of each of T steps, in the environment's units; it is sent what the step gave.
        """
        assert self._raw is not None
        deadline = self.deadline
        storage, raw, history = self._storage, self._raw, self._history
        storage.begin(request.iteration)
        noise = torch.from_numpy(request.noise).to(self.device, self._dtype)
        act = self._act_function(self.network)
        as_array, timer = self.envs.device is None, self.stopwatch
        for t in range(self.steps):
            if deadline is not None and deadline.near():
                break
            with timer.measure("inference"):
                seen = storage.put_observations(
                    t, transformed(self.friends, raw, history), history.episode_starts
                )
                actions = storage.put_actions(t, self._act(act, t, seen, noise[t]), as_array=as_array)
            step = yield self.mapping.to_environment(actions)
            storage.put_step(t, step)
            self.friends.observe(step)
            raw, history.episode_starts, history.last_actions = (
                step.observations,
                step.episode_starts,
                actions,
            )
        if deadline is not None and deadline.agreed_near():
            raise RolloutGivenUp
        # The last observation is transformed again by the next rollout, with other statistics.
        memory = copy.deepcopy(history.memory)
        storage.put_observations(self.steps, transformed(self.friends, raw, history), history.episode_starts)
        history.memory = memory
        self._raw = {name: _copy(data) for name, data in raw.items()}
        history.episode_starts = _copy(history.episode_starts)
        self.rollout.states[-1] = self._state
        rollout = storage.finish(self.layout.first)
        with timer.measure("inference"):
            self._evaluate(rollout)
        return rollout

    @torch.inference_mode()
    def _act(self, act: ActFunction, t: int, seen: Tensors, noise: Tensor) -> Tensor:
        """Actions [B, A] of step t; the model's state goes on."""
        chunk, within = divmod(t, self.sequence_length)
        rollout = self.rollout
        if within == 0:
            rollout.states[chunk] = self._state
        state = begun(self._state, self._storage.starts[t])
        noise = self.friends.shape_noise(noise, seen["policy"])
        actions, self._state = act(seen, state, noise)
        return self.friends.replace_actions(actions, seen, noise, self._storage.starts[t])

    def _evaluate(self, rollout: Rollout) -> None:
        """Policy parameters, log probabilities and values of a whole rollout, in large batches."""
        parameters, outputs = evaluate_network(self.network, rollout)
        rollout.policy_parameters.copy_(parameters[:-1])
        distribution = self.mapping.distribution
        rollout.log_probs.copy_(distribution.log_prob(rollout.policy_parameters, rollout.actions))
        rollout.value_outputs = split_streams(self.network, outputs)


def _copy(data: Data) -> Data:
    return data.clone() if isinstance(data, Tensor) else data.copy()


@torch.inference_mode()
def evaluate_network(
    network: Model, rollout: Rollout, observations: Tensors | None = None
) -> tuple[Tensor, Tensor]:
    """Run the network over a rollout, a bounded number of observations at a time.

    With memory every chunk begins with the state that acting had there.

    Args:
        network: Actor and critic.
        rollout: With T + 1 observations.
        observations: Used instead of the rollout's, with the same shapes.

    Returns:
        Policy parameters [T+1, B, P] and value outputs [T+1, B, number of streams].
    """
    observations = rollout.observations if observations is None else observations
    length, steps, group = rollout.sequence_length, rollout.steps, network.group_size
    if network.groups_agents:
        # Nothing was done yet after the last observation, of which only the value is of use.
        actions = torch.cat((rollout.actions, torch.zeros_like(rollout.actions[:1])))
        observations = {**observations, ACTIONS: actions}
    numbers = max(tensor[0, 0].numel() for tensor in observations.values())
    columns = max(1, min(EVALUATION_ROWS, EVALUATION_NUMBERS // numbers) // length // group) * group
    # The last observation is a chunk of its own; where all chunks have length 1, it joins the others.
    spans = [(0, steps + 1, 1)] if length == 1 else [(0, steps, length), (steps, steps + 1, 1)]
    parts: list[tuple[Tensor, Tensor]] = []
    for first, last, size in spans:
        chunks = slice(first // length, last // length if size > 1 else None)
        seen = {name: in_chunks(tensor[first:last], size) for name, tensor in observations.items()}
        starts = in_chunks(rollout.episode_starts[first:last], size)
        states = rollout.states[chunks].flatten(0, 1)
        found = [
            network.sequence(
                {name: tensor[:, part] for name, tensor in seen.items()}, states[part], starts[:, part]
            )
            for part in _parts(len(states), columns)
        ]
        parameters, outputs = (torch.cat([each[i] for each in found], dim=1) for i in (0, 1))
        parts.append((in_steps(parameters, rollout.num_envs), in_steps(outputs, rollout.num_envs)))
    parameters, outputs = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    return legal(network.distribution, parameters, observations), outputs


def _parts(count: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, count, size)]


def split_streams(network: Model, outputs: Tensor) -> dict[str, Tensor]:
    """Value outputs [T+1, B, S] as a tensor [T+1, B] for each reward stream."""
    return {name: outputs[..., index].clone() for index, name in enumerate(network.streams)}
