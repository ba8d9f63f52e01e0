"""Versions of the software that produced a result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

LIBRARIES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "mujoco", "box2d", "mpi4py", "safetensors")
"""Names of the packages whose versions are recorded."""


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that results depend on, by name."""
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    """Looked up once: a package's metadata may have hundreds of kilobytes, and each checkpoint asks.

    Parsing them with each checkpoint leaves gaps in the C allocator's heap, so that it grows for ever.
    """
    versions = {"python": platform.python_version()}
    for name in ("ppo-and-friends", *LIBRARIES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def code_digest() -> str:
    """Return a short digest of the project's source files, which tells two checkouts of one version apart."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
