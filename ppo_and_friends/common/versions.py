"""Which versions a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform

LIBRARIES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "mujoco", "box2d", "mpi4py", "safetensors")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for name in ("ppo-and-friends", *LIBRARIES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
