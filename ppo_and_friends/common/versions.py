"""Versions of the software that produced a result."""

from __future__ import annotations

import importlib.metadata
import platform

LIBRARIES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "mujoco", "box2d", "mpi4py", "safetensors")
"""Names of the packages whose versions are recorded."""


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that results depend on, by name."""
    versions = {"python": platform.python_version()}
    for name in ("ppo-and-friends", *LIBRARIES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
