"""Whole episodes on the canonical Gymnasium environment: the scores that are reported."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.player import Episode, Player, Policy
from ppo_and_friends.evaluation.rendering import frames_per_second, prepare_offscreen, require_display
from ppo_and_friends.evaluation.video import Choice, Recorder
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env

__all__ = ["Episode", "Evaluation", "Policy", "evaluate"]

Array = NDArray[Any]
RenderMode = Literal["human", "rgb_array"] | None
MakeEnv = Callable[[EnvironmentSettings, RenderMode], gym.Env[Any, Any]]

MAX_EPISODE_STEPS = 108_000
"""Steps after which an episode is cut off: half an hour of Atari at 60 frames a second."""


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
    def lengths(self) -> Array:
        """[episodes] int64, steps as the agent counts them."""
        return np.array([episode.length for episode in self.episodes], dtype=np.int64)

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
        make_env = make_canonical_env
    env = make_env(environment, mode)
    try:
        if mode is not None and mode not in env.metadata.get("render_modes", [mode]):
            raise UsageError(f"{environment.id} can't be rendered: it has no render mode {mode!r}.")
        if recorder is not None:
            recorder.set_speed(frames_per_second(environment, env.metadata))
        player = Player(policy, env, environment.id, deterministic, max_episode_steps, recorder)
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
