"""What is remembered of each row between two rollouts, as arrays [B, ...] by name, for exact resumption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.distributed.devices import host_array
from ppo_and_friends.errors import UsageError
from ppo_and_friends.ppo.hooks import EpisodeHistory
from ppo_and_friends.vector.protocol import Data

Array = NDArray[Any]

Rows: TypeAlias = Mapping[str, Array]
"""Arrays [B, ...] by name: an entry for each of this rank's rows."""

MEMORY = "memory"


def prefixed(name: str, rows: Rows) -> dict[str, Array]:
    """Rows with a name in front of theirs."""
    return {f"{name}.{key}": array for key, array in rows.items()}


def of_prefix(name: str, rows: Rows) -> dict[str, Array]:
    """Undoes `prefixed`: those with the name in front."""
    return {key.removeprefix(f"{name}."): each for key, each in rows.items() if key.startswith(f"{name}.")}


def history_rows(history: EpisodeHistory) -> dict[str, Array]:
    """What an episode history holds of each row.

    Raises:
        UsageError: A friend keeps something else than arrays with an entry for each row; names it.
    """
    rows = {"episode_starts": host_array(history.episode_starts)}
    if history.last_actions is not None:
        rows["last_actions"] = host_array(history.last_actions)
    for friend, kept in history.memory.items():
        count = len(rows["episode_starts"])
        if not isinstance(kept, np.ndarray | Tensor) or kept.ndim == 0 or len(kept) != count:
            raise UsageError(
                f"exact_resume: {friend} keeps something in the episode history's memory that isn't an "
                "array with an entry for each row, so its state can't be saved."
            )
        rows[f"{MEMORY}.{friend}"] = host_array(kept)
    return rows


def restored_history(rows: Rows, device: torch.device | None) -> EpisodeHistory:
    """The history that `history_rows` describes.

    Args:
        rows: What it returned.
        device: Where the engine keeps its data; None: in arrays.
    """
    last = rows.get("last_actions")
    return EpisodeHistory(
        as_data(rows["episode_starts"], device),
        None if last is None else as_data(last, device),
        {name: as_data(array, device) for name, array in of_prefix(MEMORY, rows).items()},
    )


def as_data(array: Array, device: torch.device | None) -> Data:
    """A copy of an array in the form in which an engine has its data."""
    return array.copy() if device is None else torch.from_numpy(array.copy()).to(device)
