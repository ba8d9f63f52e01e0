"""Whole episodes on the canonical Gymnasium environment: the scores that are reported."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.atomic_files import replace_file
from ppo_and_friends.errors import EnvironmentFault, PPOError, UsageError
from ppo_and_friends.experiment import EnvironmentSettings
from ppo_and_friends.rendering import frames_per_second, prepare_offscreen, require_display, window_closed
from ppo_and_friends.vector.codec import BadObservationError, Encoder, leaves
from ppo_and_friends.video import Choice, Recorder

Array = NDArray[Any]
RenderMode = Literal["human", "rgb_array"] | None
MakeEnv = Callable[[EnvironmentSettings, RenderMode], gym.Env[Any, Any]]

MAX_EPISODE_STEPS = 108_000
"""Steps after which an episode is cut off: half an hour of Atari at 60 frames a second."""


class Policy(Protocol):
    """What chooses the actions; its observation statistics are frozen."""

    def reset(self, seed: int) -> None:
        """Called before an episode: forget the last one, and draw noise from ``seed``."""
        ...

    def act(self, observations: Array, deterministic: bool) -> Array:
        """Choose actions.

        Args:
            observations: [B, *observation shape], as the environment encodes them.
            deterministic: The mode of the distribution instead of a sample.

        Returns:
            [B, *action shape] in the environment's units.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """One whole episode."""

    score: float
    """Sum of its true rewards, undiscounted."""

    length: int
    """Its steps, as the agent counts them."""

    cut: bool = False
    """Whether it was cut off, because the environment didn't end it."""


@dataclass(frozen=True)
class Evaluation:
    """What some episodes of a policy gave."""

    environment: str
    """Gymnasium id."""

    timesteps: int
    """Agent steps the policy was trained for."""

    episodes: tuple[Episode, ...]
    deterministic: bool = True
    seed: int = 0
    """Episode i began with ``seed + i``."""

    video: Path | None = None
    """The recording, if there is one."""

    @property
    def scores(self) -> Array:
        """[episodes] float64."""
        return np.array([episode.score for episode in self.episodes], dtype=np.float64)

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(self.scores.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the scores (divided by N)."""
        return float(self.scores.std())

    @property
    def min(self) -> float:
        """Lowest score."""
        return float(self.scores.min())

    @property
    def max(self) -> float:
        """Highest score."""
        return float(self.scores.max())

    def as_dict(self) -> dict[str, Any]:
        """The content of ``test_scores.json``."""
        return {
            "environment": self.environment,
            "timesteps": self.timesteps,
            "episodes": [{"score": one.score, "length": one.length} for one in self.episodes],
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "deterministic": self.deterministic,
            "seed": self.seed,
        }

    def write(self, path: Path) -> None:
        """Write ``test_scores.json``, atomically.

        Raises:
            OSError: It can't be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(self.as_dict(), indent=2) + "\n").encode())

    def print_table(self) -> None:
        """Print the episodes and their statistics to standard output."""
        from ppo_and_friends.reporting.tables import print_evaluation

        print_evaluation(self)


def evaluate(
    policy: Policy,
    environment: EnvironmentSettings,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    render: Literal["human", "record"] | None = None,
    on_episode: Callable[[int, Episode], None] | None = None,
    timesteps: int = 0,
    video_path: Path | None = None,
    video: Choice = "best",
    max_episode_steps: int = MAX_EPISODE_STEPS,
    make_env: MakeEnv | None = None,
) -> Evaluation:
    """Run whole episodes of a policy on the environment as Gymnasium defines it.

    Args:
        policy: What chooses the actions.
        environment: Which environment; its number and its training-only wrappers play no part.
        episodes: How many.
        seed: Episode i is reset with ``seed + i``, and so is the policy.
        deterministic: Take the mode of the policy's distribution.
        render: Open a window, or record a video into ``video_path``.
        on_episode: Called after each episode with its index and what it gave.
        timesteps: Agent steps the policy was trained for, for the record.
        video_path: Where to record; ``.gif`` or a video format by its extension (``.mp4``).
        video: Which episode is kept, or all of them.
        max_episode_steps: Where to cut off an episode that doesn't end.
        make_env: Makes the environment; None: ``vector.canonical.make_canonical_env``.

    Raises:
        UsageError: No display for a window, no such render mode, or a count that isn't positive.
        EnvironmentFault: The environment raised, or returned something unusable.
    """
    if episodes < 1:
        raise UsageError(f"The number of test episodes must be at least 1, not {episodes}.")
    recorder: Recorder | None = None
    if render == "human":
        require_display()
    elif render == "record":
        recorder = Recorder(video_path or Path("episode.gif"), choice=video)
        prepare_offscreen(environment)
    mode: RenderMode = {"human": "human", "record": "rgb_array", None: None}[render]
    if make_env is None:
        from ppo_and_friends.vector.canonical import make_canonical_env

        make_env = make_canonical_env
    env = make_env(environment, mode)
    try:
        if mode is not None and mode not in env.metadata.get("render_modes", [mode]):
            raise UsageError(f"{environment.id} can't be rendered: it has no render mode {mode!r}.")
        if recorder is not None:
            recorder.set_speed(frames_per_second(environment, env.metadata))
        player = _Player(policy, env, environment.id, deterministic, max_episode_steps, recorder)
        done: list[Episode] = []
        for index in range(episodes):
            episode = player.play(index, seed + index)
            if episode is None:
                break
            done.append(episode)
            if on_episode is not None:
                on_episode(index, episode)
    finally:
        with contextlib.suppress(Exception):
            env.close()
    if not done:
        raise UsageError("The window was closed before an episode ended.")
    written = recorder.write() if recorder is not None else None
    return Evaluation(environment.id, timesteps, tuple(done), deterministic, seed, written)


class _Player:
    """Plays single episodes and checks everything the environment returns."""

    def __init__(
        self,
        policy: Policy,
        env: gym.Env[Any, Any],
        name: str,
        deterministic: bool,
        max_steps: int,
        recorder: Recorder | None,
    ) -> None:
        self._policy = policy
        self._env = env
        self._name = name
        self._deterministic = deterministic
        self._max_steps = max_steps
        self._recorder = recorder
        self._encode = Encoder(env.observation_space)
        self._leaves = leaves(env.observation_space)
        self._watched = env.render_mode == "human"

    def play(self, index: int, seed: int) -> Episode | None:
        """One whole episode, reset with ``seed``; None if the user closed the window."""
        self._policy.reset(seed)
        score, length, over = 0.0, 0, False
        observation = self._checked(self._call(index, 0, partial(self._env.reset, seed=seed))[0], index, 0)
        if self._recorder is not None:
            self._recorder.begin()
        self._show(index, 0, score)
        while not over and length < self._max_steps:
            actions = self._policy.act(observation, self._deterministic)
            action = to_action(actions[0], self._env.action_space)
            result = self._call(index, length + 1, partial(self._env.step, action))
            length += 1
            observation = self._checked(result[0], index, length)
            score += self._reward(result[1], index, length)
            over = bool(result[2]) or bool(result[3])
            self._show(index, length, score)
            if self._watched and window_closed():
                return None
        if self._recorder is not None:
            self._recorder.end(score)
        return Episode(score, length, cut=not over)

    def _show(self, index: int, length: int, score: float) -> None:
        if self._recorder is None or not self._recorder.wants(length):
            return
        try:
            frame = self._env.render()
        except gym.error.DependencyNotInstalled as error:
            raise UsageError(f"{self._name} can't be rendered: {error}") from error
        except Exception as error:
            raise self._fault(index, length, "render", f"raised {type(error).__name__}: {error}") from error
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise self._fault(index, length, "render", f"gave no picture but {type(frame).__name__}")
        self._recorder.add(frame, score, length)

    def _call(self, index: int, step: int, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except PPOError:
            raise
        except gym.error.DependencyNotInstalled as error:
            raise UsageError(f"{self._name}: {error}") from error
        except Exception as error:
            key = "step" if step else "reset"
            raise self._fault(index, step, key, f"raised {type(error).__name__}: {error}") from error

    def _checked(self, observation: Any, index: int, step: int) -> Array:
        """The observation, encoded as a batch of one."""
        for leaf in self._leaves:
            part = observation
            try:
                for key in leaf.path:
                    part = part[key]
                array = np.asarray(part)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                what = f"is missing or no array ({type(error).__name__}: {error})"
                raise self._fault(index, step, leaf.key, what) from error
            if array.shape != (leaf.space.shape or ()):
                raise self._fault(index, step, leaf.key, f"has shape {array.shape}, not {leaf.space.shape}")
            if array.dtype.kind not in "biuf":
                raise self._fault(index, step, leaf.key, f"has dtype {array.dtype}, which is no number")
            if not np.isfinite(array).all():
                raise self._fault(index, step, leaf.key, f"contains {array[~np.isfinite(array)].flat[0]}")
        try:
            return self._encode(batch_of_one(observation))
        except BadObservationError as error:
            raise self._fault(index, step, error.key, error.problem) from error

    def _reward(self, reward: Any, index: int, step: int) -> float:
        try:
            value = float(reward)
        except (TypeError, ValueError):
            raise self._fault(index, step, "reward", f"is {reward!r}, not a number") from None
        if not np.isfinite(value):
            raise self._fault(index, step, "reward", f"is {value}")
        return value

    def _fault(self, index: int, step: int, key: str, what: str) -> EnvironmentFault:
        return EnvironmentFault(f"{self._name}, test episode {index}, step {step}: {key} {what}.")


def to_action(action: Any, space: spaces.Space[Any]) -> Any:
    """One action as the space has it: a NumPy integer for Discrete, an array of its dtype otherwise."""
    if isinstance(space, spaces.Discrete):
        return np.int64(action)
    return np.asarray(action, dtype=space.dtype)


def batch_of_one(observation: Any) -> Any:
    """The observation with a leading axis of one on every array in it."""
    if isinstance(observation, Mapping):
        return {key: batch_of_one(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(batch_of_one(part) for part in observation)
    return np.asarray(observation)[None]
