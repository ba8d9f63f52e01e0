"""Recording episodes as a compact GIF or as a video."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.pictures import (
    GIF_MAX_FRAMES,
    GIF_WIDTH,
    caption,
    shrink,
    write_gif,
    write_video,
)

Choice = Literal["best", "worst", "median", "all"]

MAX_FPS = 25.0
"""Maximum frames per second of a recording; GIF viewers slow down faster ones."""

MAX_FRAMES = 3000
"""Maximum number of frames recorded per episode: two minutes at 25 frames per second."""

VIDEO_WIDTH = 640
"""Default maximum width of a video, in pixels."""

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")


@dataclass
class _Clip:
    frames: list[bytes] = field(default_factory=list)
    """PNG-encoded frames, because the raw frames of an episode would take gigabytes of memory."""

    episode_return: float = 0.0
    """The episode's return."""

    index: int = 0
    """The episode's number, from 0."""


class Recorder:
    """Collects the captioned frames of episodes, and writes those of the chosen episodes to a file."""

    def __init__(
        self, path: Path, *, choice: Choice = "best", width: int | None = None, steps: int | None = None
    ) -> None:
        """Prepare a recording.

        Args:
            path: The file, with an extension for its format: ``.gif``, ``.mp4``, ``.mkv``, ``.mov`` or
                ``.webm``.
            choice: Which episode is written (by its return), or all of them in sequence.
            width: Maximum width in pixels; None: 320 for a GIF, 640 for a video.
            steps: Of each episode, the first ones; None: as many as there is room for.

        Raises:
            UsageError: The extension is not supported.
        """
        suffix = path.suffix.lower()
        if suffix != ".gif" and suffix not in VIDEO_SUFFIXES:
            known = ", ".join((".gif", *VIDEO_SUFFIXES))
            raise UsageError(f"Can't record to {path}: the extension must be one of {known}.")
        self._path = path
        self._choice = choice
        self._steps = steps
        self._width = width or (GIF_WIDTH if suffix == ".gif" else VIDEO_WIDTH)
        self._every = 1
        self._fps = MAX_FPS
        self._most = MAX_FRAMES
        self._clips: list[_Clip] = []
        self._current = _Clip()
        self._count = 0

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._path

    @property
    def fps(self) -> float:
        """Frames per second of the recording, at most 25."""
        return self._fps

    def set_speed(self, steps_per_second: float) -> None:
        """Set the environment's natural speed in steps per second, before the first frame is added."""
        self._every = max(1, int(np.ceil(steps_per_second / MAX_FPS - 1e-9)))
        self._fps = steps_per_second / self._every

    def expect(self, steps: int, index: int) -> None:
        """Tell that the next episode is number ``index`` and will have so many steps.

        Frames that a GIF would leave out again needn't be rendered then.
        """
        self._count = index
        frames = min(steps, self._steps or steps) // self._every + 1
        if self._path.suffix.lower() == ".gif":
            thin = max(1, -(-min(frames, MAX_FRAMES) // GIF_MAX_FRAMES))
            self._every, self._fps, self._most = self._every * thin, self._fps / thin, MAX_FRAMES // thin

    def begin(self) -> None:
        """Start a new episode."""
        self._current = _Clip(index=self._count)
        self._count += 1

    def wants(self, step: int) -> bool:
        """Return whether the frame after this step of the episode is recorded."""
        if self._steps is not None and step > self._steps:
            return False
        return step % self._every == 0 and len(self._current.frames) < self._most

    def add(self, frame: NDArray[Any], episode_return: float, step: int) -> None:
        """Add a frame.

        Args:
            frame: [height, width, 3] uint8.
            episode_return: The episode's return so far.
            step: Number of steps taken in the episode so far.
        """
        text = f"episode {self._current.index + 1}   step {step}   return {format_value(episode_return)}"
        picture = caption(shrink(frame, self._width), text)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        self._current.frames.append(buffer.getvalue())

    def end(self, episode_return: float) -> None:
        """End the episode, whose return is ``episode_return``."""
        self._current.episode_return = episode_return
        self._clips.append(self._current)
        if self._choice in ("best", "worst") and len(self._clips) > 1:
            # Keep only the episode that can still be chosen in memory.
            self._clips = [_choose(self._clips, self._choice)]

    def write(self) -> Path:
        """Write the chosen episode, or all episodes, to the file and return its path.

        Raises:
            UsageError: The file can't be written, or the video encoder isn't installed.
        """
        clips = self._clips if self._choice == "all" else [_choose(self._clips, self._choice)]
        frames = [frame for clip in clips for frame in clip.frames]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.suffix.lower() == ".gif":
                write_gif(self._path, frames, self._fps)
            else:
                write_video(self._path, frames, self._fps)
        except OSError as error:
            raise UsageError(f"Can't write {self._path}: {error}") from error
        return self._path


def _choose(clips: list[_Clip], choice: Choice) -> _Clip:
    return clips[chosen_of([clip.episode_return for clip in clips], choice)]


def chosen_of(returns: Sequence[float], choice: Choice) -> int:
    """The index of the best, worst or median of some returns."""
    ranked = sorted(range(len(returns)), key=lambda index: returns[index])
    return ranked[{"best": len(ranked) - 1, "worst": 0}.get(choice, (len(ranked) - 1) // 2)]
