"""Prerequisites of rendering an environment: a display or OpenGL without one, and the frame rate."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings

DEFAULT_FPS = 30.0
"""Steps per second of an environment whose metadata don't include ``render_fps``."""

ATARI_HZ = 60.0
"""Emulator frames per second."""

GL_BACKENDS = ("egl", "osmesa")
"""MuJoCo's OpenGL backends that need no display; EGL is preferred, as it can use a GPU."""


def has_display(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Return whether a window can be opened, judging by the environment variables and the platform."""
    if not platform.startswith("linux"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def require_display() -> None:
    """Check that there is a display for a window.

    Raises:
        UsageError: There is no display.
    """
    if not has_display():
        raise UsageError(
            "--render needs a display, but neither DISPLAY nor WAYLAND_DISPLAY is set. "
            "Use --render_gif to record a GIF, or --video for a video file."
        )


def uses_mujoco(environment: EnvironmentSettings) -> bool:
    """Return whether the environment uses MuJoCo, judging by its registered entry point."""
    import gymnasium

    spec = gymnasium.registry.get(environment.id.rpartition(":")[2])
    if spec is None:
        name = environment.id.rpartition(":")[2]
        versions = [other for other in gymnasium.registry.values() if other.name == name]
        spec = versions[-1] if versions else None
    return spec is not None and "mujoco" in str(spec.entry_point).lower()


@functools.cache
def gl_backend_works(backend: str) -> bool:
    """Return whether MuJoCo can render with an OpenGL backend; tested in a subprocess, as it may crash."""
    program = "import mujoco; context = mujoco.GLContext(16, 16); context.make_current(); context.free()"
    environ = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def prepare_offscreen(environment: EnvironmentSettings) -> None:
    """Set up rendering without a display; must be called before the environment is created.

    If there is no display, sets ``SDL_VIDEODRIVER`` (Box2D and classic control render in memory, but
    SDL would warn) and, for MuJoCo, ``MUJOCO_GL``, unless they are set already.

    Raises:
        UsageError: MuJoCo is used, and neither EGL nor OSMesa works on this machine.
    """
    if has_display():
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if os.environ.get("MUJOCO_GL") or not uses_mujoco(environment):
        return
    for backend in GL_BACKENDS:
        if gl_backend_works(backend):
            os.environ["MUJOCO_GL"] = backend
            return
    raise UsageError(
        "MuJoCo can't render without a display on this machine: neither EGL nor OSMesa works. "
        "Install one of them (Debian, Ubuntu: apt-get install libegl1 libosmesa6) or set MUJOCO_GL."
    )


def frames_per_second(environment: EnvironmentSettings, metadata: Mapping[str, Any]) -> float:
    """Return the number of agent steps per second at the environment's natural speed.

    Args:
        environment: The environment's settings.
        metadata: Gymnasium's metadata of the environment.
    """
    if environment.atari is not None:
        return ATARI_HZ / environment.atari.frame_skip / environment.action_repeat
    fps = float(metadata.get("render_fps") or DEFAULT_FPS)
    return fps / environment.action_repeat


def shares_its_window() -> bool:
    """Return whether the next environment would draw into the window that is open.

    A process has a single pygame window, which closing any environment closes. Of MuJoCo's, each
    environment opens its own.
    """
    pygame = sys.modules.get("pygame")
    return pygame is not None and bool(pygame.display.get_init())


def window_closed() -> bool:
    """Return whether the user closed the window of a pygame environment, which Gymnasium ignores."""
    pygame = sys.modules.get("pygame")
    if pygame is None or not pygame.display.get_init():
        return False
    return bool(pygame.event.peek(pygame.QUIT))
