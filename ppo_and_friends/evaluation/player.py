"""Playing whole episodes of a policy, one at a time, with checks of everything the environment returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.common.nested import row_of
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.evaluation.rendering import window_closed
from ppo_and_friends.evaluation.video import Recorder
from ppo_and_friends.vector.codec import BadObservationError, Encoder, policy_space
from ppo_and_friends.vector.faults import passing, raised_fault
from ppo_and_friends.vector.masks import KEY, BadMaskError, MaskReader, choices_of, dead_end
from ppo_and_friends.vector.ranges import all_usable, reason, usable
from ppo_and_friends.vector.spaces import leaves

Array = NDArray[Any]


class Policy(Protocol):
    """A policy that is evaluated; its observation statistics are frozen."""

    def reset(self, seed: int | None, rows: Array | None = None) -> None:
        """Prepare for a new episode: clear any memory, and seed the sampling of actions with ``seed``.

        Args:
            seed: None: go on drawing.
            rows: [B] bool, where an agent's episode begins; None: everywhere.
        """
        ...

    def act(self, observations: Mapping[str, Array], deterministic: bool) -> Array:
        """Choose actions.

        Args:
            observations: By name, [B, *observation shape] each, encoded; ``policy`` is what the actor sees,
                ``action_mask`` says which actions are legal, if the environment does.
            deterministic: Take the mode of the distribution instead of a sample.

        Returns:
            [B, *action shape] in the environment's units.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """The result of one episode."""

    episode_return: float
    """Undiscounted return, from the environment's own rewards."""

    length: int
    """Number of agent steps (with action repeat or frame skip, the environment takes more)."""

    hit_step_limit: bool = False
    """Whether the evaluation's step limit stopped the episode, because the environment didn't end it."""

    info: Mapping[str, float] = field(default_factory=dict)
    """Numbers in the info of the last step, such as ``is_success``."""


class Player:
    """Plays single episodes and checks everything the environment returns."""

    def __init__(
        self,
        policy: Policy,
        env: gym.Env[Any, Any],
        name: str,
        deterministic: bool,
        max_steps: int,
        recorder: Recorder | None,
        critic_keys: Sequence[str] = (),
        action_masks: str = "off",
        on_step: Callable[[int, int], None] | None = None,
    ) -> None:
        self._policy = policy
        self._env = env
        self._name = name
        self._deterministic = deterministic
        self._max_steps = max_steps
        self._recorder = recorder
        self._on_step = on_step
        self._watched = getattr(env, "render_mode", None) == "human"
        self._prepare(critic_keys, action_masks)

    def _prepare(self, critic_keys: Sequence[str], action_masks: str) -> None:
        """Learn how observations are encoded, and where masks are."""
        self._masks = MaskReader(self._env, action_masks, self._name)
        self._choices = choices_of(self._env.action_space)
        space = policy_space(self._masks.observation_space, critic_keys)
        self._encode = Encoder(space)
        self._leaves = leaves(space)

    def play(self, index: int, seed: int) -> Episode | None:
        """Play one episode.

        Args:
            index: The episode's number, for error messages.
            seed: Seed with which the policy and the environment are reset.

        Returns:
            The result; None if the user closed the window.

        Raises:
            UsageError: A package for rendering is missing.
            EnvironmentFault: The environment raised, or returned something unusable.
        """
        self._policy.reset(seed)
        episode_return, length, over = 0.0, 0, False
        result: Any = (None,) * 5
        begun = self._call(index, 0, partial(self._env.reset, seed=seed))
        seen = {"policy": self._checked(begun[0], index, 0)}
        self._masks.look(begun[1])
        self._read_mask(seen, begun[0], begun[1], index, 0)
        if self._recorder is not None:
            self._recorder.begin()
        self._show(index, 0, episode_return)
        while not over and length < self._max_steps:
            actions = self._policy.act(seen, self._deterministic)
            action = to_action(row_of(actions, self._env.action_space, 0), self._env.action_space)
            result = self._call(index, length + 1, partial(self._env.step, action))
            length += 1
            seen = {"policy": self._checked(result[0], index, length)}
            episode_return += self._reward(result[1], index, length)
            over = bool(result[2]) or bool(result[3])
            if not over:
                self._read_mask(seen, result[0], result[4], index, length)
            self._show(index, length, episode_return)
            if self._watched and window_closed():
                return None
        if self._recorder is not None:
            self._recorder.end(episode_return)
        return Episode(episode_return, length, hit_step_limit=not over, info=numbers_of(result[4]))

    def _show(self, index: int, length: int, episode_return: float) -> None:
        if self._on_step is not None:
            self._on_step(index, length)
        if self._recorder is None or not self._recorder.wants(length):
            return
        try:
            frame = self._env.render()
        except gym.error.DependencyNotInstalled as error:
            raise UsageError(f"{self._name} can't be rendered: {error}") from error
        except passing():
            raise
        except BaseException as error:
            raise self._raised(index, length, "render", error) from error
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise self._fault(index, length, "render", f"returned {type(frame).__name__}, not an image")
        self._recorder.add(frame, episode_return, length)

    def _call(self, index: int, step: int, call: Callable[[], Any]) -> Any:
        PULSE.beat()
        try:
            return call()
        except passing():
            raise
        except gym.error.DependencyNotInstalled as error:
            raise UsageError(f"{self._name}: {error}") from error
        except BaseException as error:
            key = "step" if step else "reset"
            raise self._raised(index, step, key, error) from error

    def _checked(self, observation: Any, index: int, step: int) -> Array:
        """Check an observation, and return it encoded as a batch of one."""
        for leaf in self._leaves:
            part = observation
            try:
                for key in leaf.path:
                    part = part[key]
                array = np.asarray(part)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                what = f"is missing or not an array ({type(error).__name__}: {error})"
                raise self._fault(index, step, leaf.key, what) from error
            if array.shape != (leaf.space.shape or ()):
                raise self._fault(index, step, leaf.key, f"has shape {array.shape}, not {leaf.space.shape}")
            if array.dtype.kind not in "biuf":
                raise self._fault(index, step, leaf.key, f"has dtype {array.dtype}, which is not numeric")
            if not all_usable(array):
                number = array[~usable(array)].flat[0]
                raise self._fault(index, step, leaf.key, f"contains {number}, which {reason(number)}")
        try:
            return self._encode(batch_of_one(observation))
        except BadObservationError as error:
            raise self._fault(index, step, error.key, error.problem) from error

    def _read_mask(self, seen: dict[str, Array], observation: Any, info: Any, index: int, step: int) -> None:
        """Add to what is seen which actions are legal, if the environment says so."""
        if self._masks.source is None:
            return
        try:
            mask = self._masks.read(observation, info)[None]
        except BadMaskError as error:
            raise self._fault(index, step, KEY, str(error)) from error
        except Exception as error:
            raise self._raised(index, step, KEY, error) from error
        found = dead_end(mask, self._choices)
        if found is not None:
            raise self._fault(index, step, KEY, found[1])
        seen[KEY] = mask

    def _reward(self, reward: Any, index: int, step: int) -> float:
        try:
            value = float("nothing" if isinstance(reward, str | bytes) else reward)
        except OverflowError:
            raise self._fault(index, step, "reward", "is an integer that is too large for a float") from None
        except (TypeError, ValueError):
            raise self._fault(index, step, "reward", f"is {reward!r:.60}, not a number") from None
        if not np.isfinite(value):
            raise self._fault(index, step, "reward", f"is {value}")
        return value

    def _raised(self, index: int, step: int, key: str, error: BaseException) -> EnvironmentFault:
        return raised_fault(f"{self._name}, test episode {index}, step {step}: {key} raised", error)

    def _fault(self, index: int, step: int, key: str, what: str) -> EnvironmentFault:
        return EnvironmentFault(f"{self._name}, test episode {index}, step {step}: {key} {what}.")


def to_action(action: Any, space: spaces.Space[Any]) -> Any:
    """Convert an action to its space's type: a NumPy integer for Discrete, otherwise an array, or several."""
    if isinstance(space, spaces.Dict):
        return {name: to_action(action[name], part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(to_action(action[index], part) for index, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(action)
    return np.asarray(action, dtype=space.dtype)


def batch_of_one(observation: Any) -> Any:
    """Return the observation with a leading axis of size one added to every array in it."""
    if isinstance(observation, Mapping):
        return {key: batch_of_one(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(batch_of_one(part) for part in observation)
    return np.asarray(observation)[None]
