"""Checks of every batch from a backend: shapes, dtypes, numbers that can be learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.vector.codec import BadObservationError
from ppo_and_friends.vector.faults import fault, passing, raised_fault
from ppo_and_friends.vector.masks import KEY, choices_of, dead_end
from ppo_and_friends.vector.protocol import Observations, VectorEnv, VectorStep, agents_of
from ppo_and_friends.vector.ranges import all_usable, reason, usable

Array = NDArray[Any]

FLAGS = ("terminated", "truncated", "active", "episode_starts", "finished")


class _Expected:
    """What a batch of one kind of observations must look like."""

    def __init__(self, rows: int, space: spaces.Box) -> None:
        self.shape, self.dtype = (rows, *space.shape), space.dtype
        self.is_float = space.dtype.kind == "f"


class CheckedVectorEnv:
    """Checks each batch from a backend: shapes, dtypes, and that single precision can hold the numbers."""

    def __init__(self, env: VectorEnv, first: int, notes: list[str] | None = None) -> None:
        """Wrap a backend.

        Args:
            env: The backend.
            first: Global index of its first environment.
            notes: Messages for the user about the choice of the backend.
        """
        self.env = env
        self.num_envs = env.num_envs
        self.observation_space = env.observation_space
        self.other_spaces = env.other_spaces
        self.device = env.device
        self.agents = agents_of(env)
        encoder = getattr(env, "encoder", None)
        # A backend without an encoder returns arrays already, exactly as the environment declares them.
        self.raw_observation_space: spaces.Space[Any] = (
            env.observation_space if encoder is None else encoder.declared
        )
        self.action_space = env.action_space
        self.backend: str = getattr(env, "backend", type(env).__name__)
        self.notes = notes or []
        self._told: set[str] = set()
        self._first = first
        self._steps = 0
        named = {"policy": env.observation_space, **env.other_spaces}
        self._expected = {name: _Expected(env.num_envs, space) for name, space in named.items()}
        self._choices = choices_of(env.action_space) if KEY in env.other_spaces else ()

    def reset(self, seed: int) -> Observations:
        """Reset every environment; see `VectorEnv.reset`.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        try:
            observations = self.env.reset(seed)
        except BadObservationError as error:
            raise self._fault(error.row, error.key, error.problem) from error
        PULSE.beat()
        self._check_observations(observations)
        if self._choices:
            self._check_masks(observations[KEY])
        return observations

    def step(self, actions: Array) -> VectorStep:
        """Step all environments; see `VectorEnv.step`.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        self._steps += 1
        try:
            step = self.env.step(actions)
        except BadObservationError as error:
            raise self._fault(error.row, error.key, error.problem) from error
        except passing():
            raise
        except Exception:
            raise
        except BaseException as error:  # sys.exit in somebody's engine
            raise raised_fault(f"{self.backend}, step {self._steps}:", error) from error
        self._check_observations(step.observations)
        for key in FLAGS:
            flags = getattr(step, key)
            if flags.dtype != np.bool_:
                raise self._fault(0, key, f"dtype {flags.dtype}, not bool")
        if self._choices:
            self._check_masks(step.observations[KEY], step.finished)
        self._check_rewards(step.rewards)
        if step.true_rewards is not step.rewards:
            self._check_rewards(step.true_rewards)
        return step

    def new_notices(self) -> list[str]:
        """What the environments have shown that the user should know, and that wasn't told yet."""
        notices = [each for each in getattr(self.env, "notices", []) if each not in self._told]
        self._told.update(notices)
        return notices

    def close(self) -> None:
        """Release the backend."""
        self.env.close()

    def _check_observations(self, named: Observations) -> None:
        for name, expected in self._expected.items():
            observations, key = named[name], "observation" if name == "policy" else name
            if observations.shape != expected.shape:
                shape = list(observations.shape)
                raise self._fault(0, key, f"batch shape {shape}, not {list(expected.shape)}")
            if observations.dtype != expected.dtype:
                raise self._fault(0, key, f"dtype {observations.dtype}, not {expected.dtype}")
            if expected.is_float and not all_usable(observations):
                row, *index = (int(i) for i in np.argwhere(~usable(observations))[0])
                value = observations[(row, *index)]
                where = self._component(tuple(index)) if name == "policy" else f"{name}{index}"
                raise self._fault(row, where, f"{value} {reason(value)}")

    def _check_masks(self, masks: Array, over: Array | None = None) -> None:
        found = dead_end(masks, self._choices, over)
        if found is not None:
            raise self._fault(found[0], KEY, found[1])

    def _check_rewards(self, rewards: Array) -> None:
        if rewards.shape != (self.num_envs,):
            raise self._fault(0, "reward", f"batch shape {list(rewards.shape)}, not [{self.num_envs}]")
        if not all_usable(rewards):
            row = int(np.flatnonzero(~usable(rewards))[0])
            raise self._fault(row, "reward", f"{rewards[row]} {reason(rewards[row])}")

    def _component(self, index: tuple[int, ...]) -> str:
        encoder = getattr(self.env, "encoder", None)
        name = encoder.component(index) if encoder is not None else f"observation{list(index)}"
        return str(name)

    def _fault(self, row: int, key: str, problem: str) -> EnvironmentFault:
        if self.agents:
            row, agent = divmod(row, len(self.agents))
            key = f"{self.agents[agent]}, {key}"
        return fault(self._first + row, self._steps, key, problem)
