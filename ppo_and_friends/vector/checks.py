"""Checks of everything environments return: shapes, dtypes, finite numbers, exceptions."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.vector.codec import BadObservationError
from ppo_and_friends.vector.faults import fault, raised_fault, where
from ppo_and_friends.vector.protocol import Observations, VectorEnv, VectorStep
from ppo_and_friends.vector.spaces import Leaf, leaves

Array = NDArray[Any]

FLAGS = ("terminated", "truncated", "active", "episode_starts", "finished")


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks the shapes and dtypes of one environment before its data are put into a batch.

    Casts within a kind are allowed (float64 in a float32 space, int64 in an int32 space), and so are whole
    numbers that fit the space's integer type. Other casts raise, as they could silently change values.

    Attributes:
        adapted: What was taken although it isn't as the space says; see `adapter.adaptations`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], index: int) -> None:
        """Check ``env``, whose global index (over all ranks) is ``index``."""
        super().__init__(env)
        self.adapted: dict[str, None] = {}
        self._index = index
        self._steps = 0
        self._leaves: list[Leaf] = leaves(env.observation_space)
        self._simple = env.observation_space if isinstance(env.observation_space, spaces.Box) else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the environment and check the observation.

        Raises:
            EnvironmentFault: The environment raised, or its observation doesn't fit its space.
        """
        if seed is None:
            self._steps += 1  # an automatic reset counts as a step
        try:
            result = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._raised("reset", error) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._fault("reset", "returned something other than (observation, info)")
        return self._check(result[0]), result[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and check everything it returns.

        Raises:
            EnvironmentFault: The environment raised, or what it returned doesn't fit its spaces.
        """
        self._steps += 1
        try:
            result = self.env.step(action)
        except Exception as error:
            raise self._raised("step", error) from error
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._fault(
                "step", "returned something other than (observation, reward, terminated, truncated, info)"
            )
        observation, reward, terminated, truncated, info = result
        return (
            self._check(observation),
            self._number(reward),
            self._flag("terminated", terminated),
            self._flag("truncated", truncated),
            info,
        )

    def _check(self, observation: Any) -> Any:
        simple = self._simple
        if (
            simple is not None
            and type(observation) is np.ndarray
            and observation.dtype == simple.dtype
            and observation.shape == simple.shape
        ):
            return observation
        for leaf in self._leaves:
            part = observation
            for step in leaf.path:
                try:
                    part = part[step]
                except (KeyError, IndexError, TypeError) as error:
                    kind = type(observation).__name__
                    raise self._fault(leaf.key, f"missing from an observation of type {kind}") from error
            self._check_part(leaf, part)
        return observation

    def _check_part(self, leaf: Leaf, part: Any) -> None:
        space = leaf.space
        try:
            array = np.asarray(part)
        except ValueError as error:
            raise self._fault(leaf.key, f"not an array: {error}") from error
        if array.shape != space.shape:
            shape = list(space.shape or ())
            raise self._fault(leaf.key, f"shape {list(array.shape)}, but its space has {shape}")
        wanted = np.dtype(space.dtype)
        if np.can_cast(array.dtype, wanted, "same_kind"):
            return
        if wanted.kind not in "iu" or array.dtype.kind not in "iuf" or not self._fits(array, wanted):
            raise self._fault(leaf.key, f"dtype {array.dtype}, but its space has {wanted}")
        if array.dtype.kind == "f":
            self.adapted[f"{leaf.key} has whole numbers as {array.dtype}, in a space of {wanted}"] = None

    @staticmethod
    def _fits(array: Array, dtype: np.dtype[Any]) -> bool:
        limits = np.iinfo(dtype)
        if array.size and not (array.min() >= limits.min and array.max() <= limits.max):
            return False
        return array.dtype.kind != "f" or bool((array == np.rint(array)).all())

    def _number(self, reward: SupportsFloat) -> float:
        try:
            return float(reward)
        except (TypeError, ValueError) as error:
            raise self._fault("reward", f"{type(reward).__name__} {reward!r:.60} is not a number") from error

    def _flag(self, key: str, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise self._fault(key, f"{type(value).__name__} {value!r:.60} is not a bool")

    def _fault(self, key: str, problem: str) -> EnvironmentFault:
        return fault(self._index, self._steps, key, problem)

    def _raised(self, key: str, error: BaseException) -> EnvironmentFault:
        return raised_fault(f"{where(self._index, self._steps)}, {key}:", error)


class _Expected:
    """What a batch of one kind of observations must look like."""

    def __init__(self, rows: int, space: spaces.Box) -> None:
        self.shape, self.dtype = (rows, *space.shape), space.dtype
        self.is_float = space.dtype.kind == "f"
        self.finite = np.empty(self.shape, np.bool_)  # memory for the check


class CheckedVectorEnv:
    """Checks each batch from a backend: shapes, dtypes, and that observations and rewards are finite."""

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
        self._finite_row = np.empty(env.num_envs, np.bool_)

    def reset(self, seed: int) -> Observations:
        """Reset every environment; see `VectorEnv.reset`.

        Raises:
            EnvironmentFault: An environment raised, or returned something unusable.
        """
        try:
            observations = self.env.reset(seed)
        except BadObservationError as error:
            raise self._fault(error.row, error.key, error.problem) from error
        self._check_observations(observations)
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
        self._check_observations(step.observations)
        for key in FLAGS:
            flags = getattr(step, key)
            if flags.dtype != np.bool_:
                raise self._fault(0, key, f"dtype {flags.dtype}, not bool")
        self._check_rewards(step.rewards)
        if step.scores is not step.rewards:
            self._check_rewards(step.scores)
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
            if expected.is_float and not np.isfinite(observations, out=expected.finite).all():
                row, *index = (int(i) for i in np.argwhere(~expected.finite)[0])
                value = observations[(row, *index)]
                where = self._component(tuple(index)) if name == "policy" else f"{name}{index}"
                raise self._fault(row, where, f"{value} is not a finite number")

    def _check_rewards(self, rewards: Array) -> None:
        if rewards.shape != self._finite_row.shape:
            raise self._fault(0, "reward", f"batch shape {list(rewards.shape)}, not [{self.num_envs}]")
        if not np.isfinite(rewards, out=self._finite_row).all():
            row = int(np.flatnonzero(~self._finite_row)[0])
            raise self._fault(row, "reward", f"{rewards[row]} is not a finite number")

    def _component(self, index: tuple[int, ...]) -> str:
        encoder = getattr(self.env, "encoder", None)
        name = encoder.component(index) if encoder is not None else f"observation{list(index)}"
        return str(name)

    def _fault(self, row: int, key: str, problem: str) -> EnvironmentFault:
        return fault(self._first + row, self._steps, key, problem)
