"""Where in other people's code an error was raised: the last lines of a traceback, without what led there."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

SHOWN = 3
"""Frames of a traceback that a message shows."""

GYMNASIUM = Path(sysconfig.get_path("purelib")) / "gymnasium"
PASSED = (
    Path(__file__).resolve().parent.parent,
    GYMNASIUM / "core.py",
    GYMNASIUM / "wrappers",
    GYMNASIUM / "envs" / "registration.py",
)
"""Files that only pass on what others raise: this project's, and Gymnasium's wrappers."""

INSTALLED = ("<", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
"""Beginnings of the paths of files that the user didn't write."""


def last_frames(error: BaseException, count: int = SHOWN) -> list[str]:
    """The innermost frames outside of ``PASSED``, outermost first, as ``file.py:12 in step: x = 1 / y``.

    The innermost frame of the user's own files is always among them, even if the error was raised deep inside
    a library.

    Args:
        error: Its causes aren't followed.
        count: The most frames.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(place) for place in PASSED)
    ]
    kept = frames[-count:]
    own = [frame for frame in frames if not frame.filename.startswith(INSTALLED)]
    if own and own[-1] not in kept:
        kept[:1] = [own[-1]]
    return [_line(frame) for frame in kept]


def whole_traceback(error: BaseException) -> str:
    """All of it, with the errors that led to it."""
    return "".join(traceback.format_exception(error))


def _line(frame: traceback.FrameSummary) -> str:
    code = f": {frame.line}" if frame.line else ""
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}{code}"
