"""Evaluation of a policy over whole episodes of the canonical Gymnasium environment."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.player import Episode, Player, Policy
from ppo_and_friends.evaluation.rendering import (
    frames_per_second,
    prepare_offscreen,
    require_display,
    shares_its_window,
)
from ppo_and_friends.evaluation.result import Evaluation
from ppo_and_friends.evaluation.team_player import TeamPlayer
from ppo_and_friends.evaluation.video import Choice, Recorder, chosen_of
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.parallel import make_parallel_env

__all__ = ["Episode", "Evaluation", "Policy", "evaluate"]

RenderMode = Literal["human", "rgb_array"] | None
MakeEnv = Callable[[EnvironmentSettings, RenderMode], Any]
"""Makes Gymnasium's environment, or PettingZoo's."""

OnProgress = Callable[[float, str], None]
"""Is told the share that is done, in [0, 1], and what is being done."""

PROGRESS_EVERY = 0.2
"""Least seconds between two reports of the progress."""

MAX_EPISODE_STEPS = 108_000
"""Default step limit of an episode: half an hour of Atari at 60 steps per second."""


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
    video_steps: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Play whole episodes of a policy on the canonical environment, without training-only wrappers.

    Each episode has an environment of its own, so that its result depends on its seed alone, whoever plays
    it and whatever was played before.

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
        video: Which episode is recorded (by its return), or all of them.
        max_episode_steps: Step limit after which an episode that hasn't ended is stopped.
        make_env: Creates an episode's environment; None: as for training, without what is for training alone.
        video_steps: Steps of an episode that are recorded, the first ones; None: two minutes at most.
        on_progress: Called a few times a second with the share that is done, and what is being done.

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
        recorder = Recorder(video_path or Path("episode.gif"), choice=video, steps=video_steps)
        prepare_offscreen(environment)
    mode: RenderMode = {"human": "human", "record": "rgb_array", None: None}[render]
    several = environment.api == "petting_zoo"
    stage = _Stage(environment, mode, make_env or (make_parallel_env if several else make_canonical_env))
    watch = _Watch(episodes, on_progress)
    # Rendering may take far longer than playing: of several episodes, only the one that is kept is rendered,
    # when it is known which. It is played once more for that: an episode depends on its seed alone.
    later = recorder is not None and video != "all" and episodes > 1

    def play(index: int, most: int, recorder: Recorder | None, rendered: bool) -> Episode | None:
        env = stage.fresh(rendered)
        watch.starts(env, most)
        if recorder is not None:
            recorder.set_speed(frames_per_second(environment, env.metadata))
            if later and done:
                recorder.expect(done[index].length, index)
        player = (TeamPlayer if several else Player)(
            policy,
            env,
            environment.id,
            deterministic,
            most,
            recorder,
            environment.critic_observations,
            environment.action_masks,
            watch.step if on_progress is not None else None,
        )
        return player.play(index, seed + index)

    done: list[Episode] = []
    try:
        if later and recorder is not None:
            # One picture of the first episode, so that what can't be rendered is known at once.
            play(0, 0, Recorder(recorder.path), rendered=True)
        for index in range(episodes):
            episode = play(index, max_episode_steps, None if later else recorder, rendered=not later)
            if episode is None:
                break
            done.append(episode)
            watch.ends(episode)
            if on_episode is not None:
                on_episode(index, episode)
        if later and recorder is not None and done:
            index = chosen_of([episode.episode_return for episode in done], video)
            watch.says(f"recording episode {index + 1}")
            again = play(
                index, min(max_episode_steps, video_steps or max_episode_steps), recorder, rendered=True
            )
            before = done[index].episode_return
            if again is not None and again.length == done[index].length and again.episode_return != before:
                warnings.warn(
                    f"{environment.id} isn't determined by its seed: the episode that was recorded scored "
                    f"{format_value(again.episode_return)}, and {format_value(before)} before.",
                    stacklevel=2,
                )
    finally:
        stage.clear()
    if not done:
        raise UsageError("The window was closed before the first episode ended, so there are no results.")
    if recorder is not None and on_progress is not None:
        on_progress(1.0, f"writing {recorder.path.name}")
    written = recorder.write() if recorder is not None else None
    return Evaluation(environment.id, timesteps, tuple(done), deterministic, seed, written)


class _Watch:
    """Says how far an evaluation is, a few times a second."""

    def __init__(self, episodes: int, tell: OnProgress | None) -> None:
        self._episodes, self._tell = episodes, tell
        self._limit = 0
        self._lengths: list[int] = []
        self._doing = ""
        self._told = time.perf_counter()

    def starts(self, env: Any, most: int) -> None:
        own = getattr(getattr(env, "spec", None), "max_episode_steps", None)
        self._limit = min(most, own) if isinstance(own, int) and own > 0 else most

    def ends(self, episode: Episode) -> None:
        self._lengths.append(episode.length)

    def says(self, text: str) -> None:
        self._doing = text

    def step(self, index: int, length: int) -> None:
        now = time.perf_counter()
        if self._tell is None or now - self._told < PROGRESS_EVERY:
            return
        self._told = now
        expected = float(np.mean(self._lengths)) if self._lengths else float(self._limit)
        share = 1.0 if self._doing else (index + min(1.0, length / max(1.0, expected))) / self._episodes
        text = self._doing or f"test episode {index + 1} of {self._episodes}"
        self._tell(float(share), f"{text}, step {length:,} of at most {self._limit:,}")


class _Stage:
    """Creates a new environment for each episode, so that an episode depends on its seed alone.

    Some environments carry something over a reset: BipedalWalker goes on in the same Box2D world, and an
    environment of one's own may forget to reset a member.
    """

    def __init__(self, settings: EnvironmentSettings, mode: RenderMode, make_env: MakeEnv) -> None:
        self._settings = settings
        self._mode = mode
        self._make_env = make_env
        self._open: list[Any] = []

    def fresh(self, rendered: bool = True) -> Any:
        """Replace the environment; a window stays open where the next environment draws into it.

        Args:
            rendered: Whether it is shown or recorded, if any is.
        """
        if not (self._mode == "human" and shares_its_window()):
            self.clear()
        env = self._make_env(self._settings, self._mode if rendered else None)
        self._open.append(env)
        if self._mode is not None and self._mode not in env.metadata.get("render_modes", [self._mode]):
            raise UsageError(
                f"{self._settings.id} can't be rendered: it doesn't support render mode {self._mode!r}."
            )
        return env

    def clear(self) -> None:
        """Close every environment that is still open."""
        while self._open:
            close_env(self._open.pop(), f"the test environment {self._settings.id}")
