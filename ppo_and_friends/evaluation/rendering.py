"""What must be right around an environment before it can be looked at: displays, OpenGL, speed."""

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
"""Steps a second of an environment that doesn't say."""

ATARI_HZ = 60.0
"""Emulator frames a second."""

GL_BACKENDS = ("egl", "osmesa")
"""Ways to draw without a display, the preferred one (it can use a GPU) first."""


def has_display(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window can be opened, as far as the environment variables tell."""
    if not platform.startswith("linux"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def require_display() -> None:
    """Refuse to open a window where there is none.

    Raises:
        UsageError: There is no display.
    """
    if not has_display():
        raise UsageError(
            "--render needs a display, and there is none (neither DISPLAY nor WAYLAND_DISPLAY is set). "
            "Use --render_gif to write a GIF or MP4 instead."
        )


def uses_mujoco(environment: EnvironmentSettings) -> bool:
    """Whether the environment is one of Gymnasium's MuJoCo ones, or says mujoco in its entry point."""
    import gymnasium

    spec = gymnasium.registry.get(environment.id.rpartition(":")[2])
    if spec is None:
        name = environment.id.rpartition(":")[2]
        versions = [other for other in gymnasium.registry.values() if other.name == name]
        spec = versions[-1] if versions else None
    return spec is not None and "mujoco" in str(spec.entry_point).lower()


@functools.cache
def gl_backend_works(backend: str) -> bool:
    """Whether MuJoCo can draw with this backend; tried in a process of its own, since it may crash."""
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
    """Choose how to draw without a display; call it before the environment is made.

    Sets ``SDL_VIDEODRIVER`` (Box2D and classic control draw in memory anyway, but SDL complains)
    and, for MuJoCo, ``MUJOCO_GL``, unless they are set already.

    Raises:
        UsageError: Neither EGL nor OSMesa works here.
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
        "MuJoCo can't draw without a display here: neither EGL nor OSMesa works. "
        "Install one of them (Debian, Ubuntu: apt-get install libegl1 libosmesa6) or set MUJOCO_GL."
    )


def frames_per_second(environment: EnvironmentSettings, metadata: Mapping[str, Any]) -> float:
    """Agent steps that take a second at natural speed."""
    if environment.atari is not None:
        return ATARI_HZ / environment.atari.frame_skip / environment.action_repeat
    fps = float(metadata.get("render_fps") or DEFAULT_FPS)
    return fps / environment.action_repeat


def window_closed() -> bool:
    """Whether the user closed the window of a pygame environment (Gymnasium itself takes no notice)."""
    pygame = sys.modules.get("pygame")
    if pygame is None or not pygame.display.get_init():
        return False
    return bool(pygame.event.peek(pygame.QUIT))
