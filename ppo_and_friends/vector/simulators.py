"""Keeps simulators from printing and from writing log files into the working directory."""

from __future__ import annotations

import warnings

import gymnasium


def _warn(text: str) -> None:
    # This one is about the definition of Gymnasium's own models, which the user can't change.
    if "settotalmass" not in text:
        warnings.warn(f"MuJoCo: {text}", stacklevel=2)


def quiet_mujoco(id: str) -> None:
    """Turn MuJoCo's warnings into Python warnings, if the environment uses MuJoCo.

    By default, MuJoCo prints them on every rank and writes ``MUJOCO_LOG.TXT`` into the working directory.

    Args:
        id: Gymnasium id, optionally with ``module:`` in front.
    """
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is None or "mujoco" not in str(spec.entry_point):
        return
    try:
        import mujoco
    except ImportError:
        return  # creating the environment raises a better error
    mujoco.set_mju_user_warning(_warn)
