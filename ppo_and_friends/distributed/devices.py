"""Where the networks live: one decision of all ranks, and memory that a GPU reads fast.

Nothing here starts CUDA unless a run asks for it, and on the CPU nothing of it costs anything.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import UsageError

NodeGPUs = tuple[str, int]
"""A rank's node, and how many GPUs the rank sees there."""


def choose_device(name: str, communicator: Communicator, *, convolutions: bool) -> torch.device:
    """The device of this rank, for a setting of ``auto``, ``cpu`` or ``cuda``. A collective.

    All ranks compute on GPUs or none does, since all must take the same gradient steps. The ranks of a
    node are spread over the GPUs they see; with more ranks than GPUs, several share one.

    Args:
        name: The setting. ``auto`` takes GPUs for images only: small networks are faster without.
        communicator: The ranks.
        convolutions: Whether the network sees images.

    Raises:
        UsageError: CUDA is asked for and not there for every rank; on all ranks alike.
    """
    if name == "cpu" or (name == "auto" and not convolutions):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = assign(name, communicator.gather((socket.gethostname(), count)), communicator.rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def assign(name: str, ranks: Sequence[NodeGPUs], rank: int) -> torch.device:
    """The device of ``rank``, from what all ranks see.

    Args:
        name: ``auto`` or ``cuda``.
        ranks: Node and number of GPUs of every rank.
        rank: Whose device.

    Raises:
        UsageError: ``cuda``, and a rank sees none.
    """
    without = [number for number, (_, count) in enumerate(ranks) if count == 0]
    if without and name == "cuda":
        if len(without) == len(ranks):
            raise UsageError("--device cuda: no CUDA device is available. Use --device cpu or auto.")
        raise UsageError(
            f"--device cuda: rank {without[0]} on {ranks[without[0]][0]} sees no CUDA device, others do.\n"
            "Ask the scheduler for GPUs on every node, or use --device cpu or auto."
        )
    if without:
        return torch.device("cpu")
    node, count = ranks[rank]
    return torch.device("cuda", sum(other == node for other, _ in ranks[:rank]) % count)


def host_zeros(shape: Sequence[int], dtype: DTypeLike, device: torch.device) -> NDArray[np.generic]:
    """An array of zeros on the host, in page-locked memory if ``device`` is a GPU.

    From there a transfer is a single copy that need not be waited for.

    Args:
        shape: The array's.
        dtype: A number's or bool.
        device: Where the array will be sent to.
    """
    array: NDArray[np.generic] = np.zeros(shape, dtype)
    if device.type != "cuda":
        return array
    locked: NDArray[np.generic] = torch.from_numpy(array).pin_memory().numpy()
    return locked
