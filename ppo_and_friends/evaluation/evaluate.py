"""Evaluation of a policy over whole episodes of the canonical Gymnasium environment."""

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
from ppo_and_friends.common.infos import means
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
"""Default step limit of an episode: half an hour of Atari at 60 steps per second."""


@dataclass(frozen=True)
class Evaluation:
    """The results of a policy's evaluation."""

    environment: str
    """Gymnasium id."""

    timesteps: int
    """Number of agent steps the policy was trained for."""

    episodes: tuple[Episode, ...]
    """The episodes, in the order in which they were played."""

    deterministic: bool = True
    """Whether the policy took its distribution's mode instead of sampling actions."""

    seed: int = 0
    """Episode i was reset with ``seed + i``."""

    video: Path | None = None
    """The recording; None if there is none."""

    @property
    def scores(self) -> Array:
        """The episodes' scores, [episodes] float64."""
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
        """Population standard deviation of the scores (normalised by N, not N - 1)."""
        return float(self.scores.std())

    @property
    def min(self) -> float:
        """Lowest score."""
        return float(self.scores.min())

    @property
    def max(self) -> float:
        """Highest score."""
        return float(self.scores.max())

    @property
    def infos(self) -> dict[str, float]:
        """Means of the numbers that the environment reported at the episodes' ends, by name."""
        return means(episode.info for episode in self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``test_scores.json``."""
        return {
            "environment": self.environment,
            "timesteps": self.timesteps,
            "episodes": [
                {"score": one.score, "length": one.length} | ({"info": dict(one.info)} if one.info else {})
                for one in self.episodes
            ],
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            **({"infos": self.infos} if self.infos else {}),
            "deterministic": self.deterministic,
            "seed": self.seed,
        }

    def write(self, path: Path) -> None:
        """Write the results to a JSON file, atomically.

        Args:
            path: The file, usually ``test_scores.json``; its folder is created if necessary.

        Raises:
            OSError: The file can't be written.
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
    """Play whole episodes of a policy on the canonical environment, without training-only wrappers.

    Args:
        policy: Chooses the actions.
        environment: The environment; ``num_envs`` and settings that only apply to training are ignored.
        episodes: Number of episodes, at least 1.
        seed: The environment and the policy are reset with ``seed + i`` before episode i.
        deterministic: Take the mode of the policy's distribution instead of sampling actions.
        render: ``human`` opens a window, ``record`` records to ``video_path``.
        on_episode: Called after each episode with the episode's index and result.
        timesteps: Number of agent steps the policy was trained for; copied to the result.
        video_path: The recording's file, a ``.gif`` or a video (``.mp4``); None: ``episode.gif``.
        video: Which episode is recorded (by its score), or all of them.
        max_episode_steps: Step limit after which an episode that hasn't ended is stopped.
        make_env: Creates the environment; None: ``vector.canonical.make_canonical_env``.

    Returns:
        The results. If the user closes the window, only the episodes that were complete by then.

    Raises:
        UsageError: There is no display, the environment doesn't support the render mode,
            ``episodes`` is less than 1, or the window was closed during the first episode.
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
            raise UsageError(f"{environment.id} can't be rendered: it doesn't support render mode {mode!r}.")
        if recorder is not None:
            recorder.set_speed(frames_per_second(environment, env.metadata))
        player = Player(
            policy,
            env,
            environment.id,
            deterministic,
            max_episode_steps,
            recorder,
            environment.critic_observations,
        )
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
        raise UsageError("The window was closed before the first episode ended, so there are no results.")
    written = recorder.write() if recorder is not None else None
    return Evaluation(environment.id, timesteps, tuple(done), deterministic, seed, written)
