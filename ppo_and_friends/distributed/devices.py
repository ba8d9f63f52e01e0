"""Device selection, agreed on by all ranks, and page-locked host memory for fast transfers to a GPU.

CUDA is initialised only if a run asks for it; runs on the CPU have no overhead.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import UsageError

NodeGPUs = tuple[str, int]
"""A rank's host name, and the number of GPUs visible to the rank."""


def choose_device(name: str, communicator: Communicator, *, convolutions: bool) -> torch.device:
    """Return this rank's device for the setting ``auto``, ``cpu`` or ``cuda``. Collective.

    Either all ranks use GPUs or none does, because all must take the same gradient steps. The ranks
    of a node are spread over its visible GPUs; if there are more ranks than GPUs, several share one.

    Args:
        name: The setting. ``auto`` uses GPUs for image observations only, because small networks run
            faster on the CPU.
        communicator: The ranks.
        convolutions: Whether the network processes images.

    Raises:
        UsageError: On all ranks, if CUDA was requested and any rank has no CUDA device.
    """
    if name == "cpu" or (name == "auto" and not convolutions):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = assign(name, communicator.gather((socket.gethostname(), count)), communicator.rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def assign(name: str, ranks: Sequence[NodeGPUs], rank: int) -> torch.device:
    """Return the device of ``rank``, given the GPUs visible to every rank.

    Args:
        name: ``auto`` or ``cuda``.
        ranks: Host name and number of visible GPUs of every rank.
        rank: The rank whose device is returned.

    Raises:
        UsageError: ``name`` is ``cuda`` and some rank sees no GPU.
    """
    without = [number for number, (_, count) in enumerate(ranks) if count == 0]
    if without and name == "cuda":
        if len(without) == len(ranks):
            raise UsageError("--device cuda: no CUDA device is available. Use --device cpu or auto.")
        raise UsageError(
            f"--device cuda: rank {without[0]} on {ranks[without[0]][0]} has no CUDA device, but others do.\n"
            "Request GPUs on every node from the scheduler, or use --device cpu or auto."
        )
    if without:
        return torch.device("cpu")
    node, count = ranks[rank]
    return torch.device("cuda", sum(other == node for other, _ in ranks[:rank]) % count)


def host_zeros(shape: Sequence[int], dtype: DTypeLike, device: torch.device) -> NDArray[np.generic]:
    """Return an array of zeros on the host, in page-locked memory if ``device`` is a GPU.

    Page-locked memory is transferred in a single copy, which can be asynchronous.

    Args:
        shape: The array's shape.
        dtype: A numeric dtype or bool.
        device: The device to which the array will be transferred.
    """
    array: NDArray[np.generic] = np.zeros(shape, dtype)
    if device.type != "cuda":
        return array
    locked: NDArray[np.generic] = torch.from_numpy(array).pin_memory().numpy()
    return locked


def host_array(data: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    """Return a tensor as an array on the host (on the CPU they share their memory), and an array as it is."""
    return data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else data
