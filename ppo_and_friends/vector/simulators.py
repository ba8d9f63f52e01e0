"""Keeps simulators from writing where a run is started."""

from __future__ import annotations

import warnings

import gymnasium


def _warn(text: str) -> None:
    # About the way Gymnasium's own models are written: nothing a user can change.
    if "settotalmass" not in text:
        warnings.warn(f"MuJoCo: {text}", stacklevel=2)


def quiet_mujoco(id: str) -> None:
    """Let MuJoCo's warnings be Python's, for an environment that uses it.

    By default it prints them on every rank and writes ``MUJOCO_LOG.TXT`` into the working directory.
    """
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is None or "mujoco" not in str(spec.entry_point):
        return
    try:
        import mujoco
    except ImportError:
        return  # making the environment says it better
    mujoco.set_mju_user_warning(_warn)
