"""Checks of a checkpoint's content. Right checksums only show that it is what was written.

Another version of the project may have written it, or somebody with other intentions. What can be seen
without the run's settings is checked here, and what depends on them in `saved_tensors`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from gymnasium import spaces

from ppo_and_friends.common.tensors import is_finite
from ppo_and_friends.runs.checkpoint import MANIFEST, STATE, TENSORS, Checkpoint, damaged
from ppo_and_friends.runs.checkpoint_contents import (
    ACTING_FRIENDS,
    AGENTS,
    CRITIC_SPACE,
    MASK_SPACE,
    RAW_SPACE,
)
from ppo_and_friends.vector.space_descriptions import restore

TENSOR_NAME = re.compile(r"network\.[^\s]+|friends\.[^.\s]+\.[^\s]+|optimizer\.[^\s]+\.[^.\s]+")
MOMENTS = ("step", "exp_avg", "exp_avg_sq")

MOST_NUMBERS = 10**8
"""Largest observation or action, in numbers."""


def check_contents(checkpoint: Checkpoint) -> None:
    """Check all that can be checked without the run's settings.

    Args:
        checkpoint: A run's checkpoint or its best policy, verified by its checksums.

    Raises:
        CheckpointError: Names the file, the key and what is wrong.
    """
    _check_state(checkpoint)
    for name, tensor in checkpoint.tensors.items():
        if not TENSOR_NAME.fullmatch(name):
            raise damaged(checkpoint, TENSORS, f"{name[:80]!r} is not a tensor of a run")
        if not name.startswith("friends.") and not is_finite(tensor):
            raise damaged(checkpoint, TENSORS, f"{name} has NaN or infinite values")
        if name.startswith("optimizer."):
            group, _, moment = name.rpartition(".")
            if moment not in MOMENTS or not tensor.is_floating_point():
                raise damaged(checkpoint, TENSORS, f"{name} is not a moment of Adam's")
            if any(f"{group}.{each}" not in checkpoint.tensors for each in MOMENTS):
                raise damaged(checkpoint, TENSORS, f"{group} has not all of {', '.join(MOMENTS)}")
            if moment != "exp_avg" and bool((tensor < 0).any()):
                raise damaged(checkpoint, TENSORS, f"{name} has negative values")
    if not any(name.startswith("network.") for name in checkpoint.tensors):
        raise damaged(checkpoint, TENSORS, "it has no tensor of a network")
    experiment = checkpoint.manifest.get("experiment", {})
    if not isinstance(experiment, dict):
        raise damaged(checkpoint, MANIFEST, "experiment is not an object")


def _check_state(checkpoint: Checkpoint) -> None:
    state = checkpoint.state
    # A run's best policy has the score with which it was saved instead of counters.
    policy = "score" in state and "iteration" not in state
    counters = ("timesteps",) if policy else ("iteration", "timesteps", "episodes")
    for name in counters:
        _check(checkpoint, name, _is_count, "a whole number from 0")
    if state["timesteps"] != checkpoint.timesteps:
        raise damaged(
            checkpoint, STATE, f"timesteps is {state['timesteps']}; {MANIFEST} has {checkpoint.timesteps}"
        )
    if not policy:
        _check(checkpoint, "seconds", lambda value: _is_number(value) and 0 <= value < math.inf, "a time")
        _check(
            checkpoint,
            "recent_scores",
            lambda value: isinstance(value, list) and all(map(_is_number, value)),
            "a list of numbers",
        )
        for name in ("highest", "latest"):
            if name in state:
                _check(
                    checkpoint,
                    name,
                    lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
                    "an object of numbers",
                )
    _check(checkpoint, "identity", lambda value: isinstance(value, dict), "an object")
    identity = state["identity"]
    for name in ("environment", "network"):
        if not isinstance(identity.get(name), dict):
            raise damaged(checkpoint, STATE, f"identity.{name} is missing or not an object")
    spaces_in = {f"identity.{name}": identity.get(name) for name in ("observation_space", "action_space")}
    for name in (CRITIC_SPACE, MASK_SPACE):
        if name in identity:
            spaces_in[f"identity.{name}"] = identity[name]
    if not _are_names(identity.get(AGENTS, [])):
        raise damaged(checkpoint, STATE, f"identity.{AGENTS} is not a list of names")
    if RAW_SPACE in state:
        spaces_in[RAW_SPACE] = state[RAW_SPACE]
    for key, described in spaces_in.items():
        _check_space(checkpoint, key, described, encoded=key not in (RAW_SPACE, "identity.action_space"))
    if not _are_names(state.get(ACTING_FRIENDS, [])):
        raise damaged(checkpoint, STATE, f"{ACTING_FRIENDS} is not a list of names")


def _check(checkpoint: Checkpoint, key: str, right: Callable[[Any], bool], wanted: str) -> None:
    if key not in checkpoint.state:
        raise damaged(checkpoint, STATE, f"{key} is missing")
    if not right(checkpoint.state[key]):
        raise damaged(checkpoint, STATE, f"{key} is not {wanted}")


def _check_space(checkpoint: Checkpoint, key: str, described: Any, encoded: bool) -> None:
    if _numbers(described) > MOST_NUMBERS:
        raise damaged(checkpoint, STATE, f"{key} has more than {MOST_NUMBERS:,} numbers")
    try:
        space = restore(described)
    except Exception as error:  # NumPy's and Gymnasium's assertions, whichever they are
        raise damaged(checkpoint, STATE, f"{key} is not a space ({type(error).__name__})") from None
    if encoded and not isinstance(space, spaces.Box):
        raise damaged(checkpoint, STATE, f"{key} is not a Box")


def _numbers(described: Any) -> int:
    """How many numbers a space's elements have, before anything is allocated for them."""
    if not isinstance(described, Mapping):
        return 0
    shape = described.get("shape", [])
    own = math.prod(n for n in shape if isinstance(n, int)) if isinstance(shape, list) else 0
    own = max(own, described["n"] if _is_count(described.get("n")) else 0)
    if isinstance(described.get("nvec"), list):
        own = max(own, sum(n for n in described["nvec"] if _is_count(n)))
    parts = described.get("spaces", [])
    parts = parts if isinstance(parts, list) else []
    return own + sum(
        _numbers(part[1] if isinstance(part, list) and len(part) == 2 else part) for part in parts
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
