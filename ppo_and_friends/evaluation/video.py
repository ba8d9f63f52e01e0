"""Recording episodes as a compact GIF or as a video."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.errors import UsageError

Choice = Literal["best", "worst", "median", "all"]

MAX_FPS = 25.0
"""Maximum frames per second of a recording; GIF viewers slow down faster ones."""

MAX_FRAMES = 3000
"""Maximum number of frames recorded per episode: two minutes at 25 frames per second."""

GIF_WIDTH = 320
"""Default maximum width of a GIF, in pixels."""

VIDEO_WIDTH = 640
"""Default maximum width of a video, in pixels."""

GIF_MAX_FRAMES = 810
"""Maximum number of frames in a GIF; longer recordings skip frames, at the same playback speed."""

GIF_COLORS = 64
"""Size of a GIF's colour palette."""

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


def shrink(frame: NDArray[Any], width: int) -> Image.Image:
    """Return a frame as an image at most ``width`` pixels wide.

    Frames that are at most half as wide (Atari) are enlarged by an integer factor, without smoothing.

    Args:
        frame: [height, width, 3] uint8 (further channels are ignored).
        width: Maximum width in pixels.
    """
    picture = Image.fromarray(np.ascontiguousarray(frame[..., :3], dtype=np.uint8))
    if picture.width * 2 <= width:
        factor = width // picture.width
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if picture.width <= width:
        return picture
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def caption(picture: Image.Image, text: str) -> Image.Image:
    """Return the image with ``text`` on a dark bar below; the size is even, as video encoders need it."""
    size = max(10, round(picture.width / 24))
    font = ImageFont.load_default(size)
    room = picture.width - size
    while size > 6 and font.getlength(text) > room:
        size -= 1
        font = ImageFont.load_default(size)
    bar = round(1.7 * max(size, 10))
    width, height = picture.width + picture.width % 2, picture.height + bar
    result = Image.new("RGB", (width, height + height % 2), (24, 24, 28))
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    draw.text((width // 2, picture.height + bar // 2), text, fill=(240, 240, 240), font=font, anchor="mm")
    return result


def _open(frame: bytes) -> Image.Image:
    return Image.open(io.BytesIO(frame)).convert("RGB")


def write_gif(path: Path | BinaryIO, frames: list[bytes], fps: float) -> None:
    """Write a looping GIF with one colour palette for all frames.

    Args:
        path: The file's path, or an open binary file.
        frames: PNG-encoded frames, at least one.
        fps: Frames per second.
    """
    thin = max(1, -(-len(frames) // GIF_MAX_FRAMES))
    kept = frames[::thin]
    sample = [_open(kept[round(i)]) for i in np.linspace(0, len(kept) - 1, min(8, len(kept)))]
    sheet = Image.new("RGB", (sample[0].width, sum(one.height for one in sample)))
    top = 0
    for one in sample:
        sheet.paste(one, (0, top))
        top += one.height
    palette = sheet.quantize(GIF_COLORS, method=Image.Quantize.MEDIANCUT)
    pictures = [_open(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
    # GIF durations are multiples of 10 ms; the last frame is shown for 1.5 s.
    duration = max(20, round(100 * thin / fps) * 10)
    durations = [duration] * (len(pictures) - 1) + [1500]
    pictures[0].save(
        path, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
    )


def write_video(path: Path, frames: list[bytes], fps: float) -> None:
    """Write a video in the format given by the file's extension.

    Args:
        path: The file.
        frames: PNG-encoded frames.
        fps: Frames per second.

    Raises:
        UsageError: The encoder isn't installed.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UsageError(
            f"{path.suffix} files need imageio's ffmpeg encoder: pip install 'imageio[ffmpeg]', or use .gif."
        )
    import imageio.v2 as imageio

    writer: Any = imageio.get_writer(path, fps=fps, macro_block_size=2, quality=7)
    with writer:
        for frame in frames:
            writer.append_data(np.asarray(_open(frame)))


def gif_of(path: Path) -> bytes:
    """Return a recording as the bytes of a GIF; a video is converted.

    Raises:
        OSError: The recording can't be read.
    """
    if path.suffix.lower() == ".gif":
        return path.read_bytes()
    import imageio.v2 as imageio

    frames = []
    reader: Any = imageio.get_reader(path)
    with reader:
        fps = float(reader.get_meta_data()["fps"])
        for frame in reader:
            buffer = io.BytesIO()
            shrink(np.asarray(frame), GIF_WIDTH).save(buffer, "PNG", compress_level=1)
            frames.append(buffer.getvalue())
    result = io.BytesIO()
    write_gif(result, frames, fps)
    return result.getvalue()
