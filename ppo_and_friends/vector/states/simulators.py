"""States of simulators that aren't written in Python: MuJoCo's, and the Arcade Learning Environment's."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.vector.states.errors import BadStateError, NoStateError

Array = NDArray[Any]

ARENA = ("efc_", "iefc_", "island_", "map_", "iacc", "ifrc_")
"""Beginnings of the names of MuJoCo's arrays that a step makes anew, of whatever size it needs."""


def saved(value: Any) -> tuple[str, Any] | None:
    """The simulator's name and plain data; None: it isn't one."""
    mujoco, ale_py = sys.modules.get("mujoco"), sys.modules.get("ale_py")
    if mujoco is not None and isinstance(value, mujoco.MjData):
        return "mujoco", _of_mujoco(mujoco, value)
    if mujoco is not None and isinstance(value, mujoco.MjModel):
        return "mujoco_model", model_digest(mujoco, value)
    if ale_py is not None and isinstance(value, ale_py.ALEInterface):
        if value.getFloat("repeat_action_probability") > 0.0:
            # Measured with ale-py 0.12.1: the first step after it may repeat another action.
            raise NoStateError(
                "the emulator doesn't tell the action that sticky actions would repeat: "
                "environment.atari.repeat_action_probability must be 0"
            )
        return "ale", value.cloneState(include_rng=True).serialize()
    return None


def restore(name: str, state: Any, existing: Any) -> None:
    """Set a simulator's state.

    Args:
        name: As `saved` returned it.
        state: Likewise.
        existing: The simulator.

    Raises:
        BadStateError: The state isn't one.
        NoStateError: It is another model's.
    """
    mujoco, ale_py = sys.modules.get("mujoco"), sys.modules.get("ale_py")
    if name == "mujoco" and mujoco is not None and isinstance(existing, mujoco.MjData):
        _to_mujoco(mujoco, existing, state)
    elif name == "mujoco_model" and mujoco is not None and isinstance(existing, mujoco.MjModel):
        if state != model_digest(mujoco, existing):
            raise NoStateError("is another model than the saved one: what changes a model isn't restored")
    elif name == "ale" and ale_py is not None and isinstance(existing, ale_py.ALEInterface):
        if not isinstance(state, bytes):
            raise BadStateError("an emulator's state is bytes")
        try:
            existing.restoreState(ale_py.ALEState(state))
        except Exception as error:  # whatever the emulator makes of it
            raise BadStateError(f"the emulator refuses its state ({type(error).__name__})") from None
    else:
        raise NoStateError(f"is a {type(existing).__name__}, and the saved one is of {name!r:.20}")


def _of_mujoco(mujoco: Any, data: Any) -> dict[str, Any]:
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.zeros(mujoco.mj_stateSize(data.model, kind))
    mujoco.mj_getState(data.model, data, state, kind)
    # What a step has computed is of the time before it integrates, and environments read it: by itself, the
    # state would give other numbers.
    return {"state": state, "computed": {name: array.copy() for name, array in _arrays(data)}}


def _arrays(data: Any) -> list[tuple[str, Array]]:
    """The arrays of constant size that a simulation keeps, in its own memory."""
    found = []
    for name in dir(data):
        if not name.startswith(("_", *ARENA)):
            array = getattr(data, name)
            if isinstance(array, np.ndarray) and array.size:
                found.append((name, array))
    return found


def _to_mujoco(mujoco: Any, data: Any, state: Any) -> None:
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    if not isinstance(state, dict) or not isinstance(state.get("computed"), dict):
        raise BadStateError("a MuJoCo state is a dictionary")
    numbers = state.get("state")
    size = mujoco.mj_stateSize(data.model, kind)
    if not isinstance(numbers, np.ndarray) or numbers.shape != (size,) or numbers.dtype != np.float64:
        raise BadStateError(f"a MuJoCo state of this model has {size} numbers")
    mujoco.mj_setState(data.model, data, numbers, kind)
    mujoco.mj_forward(data.model, data)  # contacts
    mujoco.mj_setState(data.model, data, numbers, kind)  # since this has solved anew
    own = dict(_arrays(data))
    for name, array in state["computed"].items():
        there = own.get(name)
        if there is not None and isinstance(array, np.ndarray) and array.shape == there.shape:
            there[...] = array


def model_digest(mujoco: Any, model: Any) -> str:
    """SHA-256 of a model with all its parameters."""
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer.tobytes()).hexdigest()
