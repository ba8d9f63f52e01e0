"""Pictures of frames, and the files that are made of them: GIFs and videos."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ppo_and_friends.errors import UsageError

GIF_WIDTH = 320
"""Default maximum width of a GIF, in pixels."""

GIF_MAX_FRAMES = 810
"""Maximum number of frames in a GIF; longer recordings skip frames, at the same playback speed."""

GIF_COLORS = 64
"""Size of a GIF's colour palette."""


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
