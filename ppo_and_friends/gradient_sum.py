"""Summing a flat buffer over the ranks: in place over MPI, by way of the host, or from GPU to GPU."""

from __future__ import annotations

import atexit
import socket
import warnings
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not by name

from ppo_and_friends.communicator import Communicator

Sum = Callable[[], None]
"""Replaces the buffer it was made for by its sum over the ranks. A collective."""

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others, when connecting and in a sum."""


def make_sum(buffer: torch.Tensor, communicator: Communicator) -> Sum:
    """The fastest way to sum a buffer, again and again. A collective, as each call of the result is.

    Alone, nothing is summed. On the CPU the ranks' MPI does it in place. On GPUs, NCCL does if every rank
    has one of its own; ranks that share one send it by way of the host (NCCL refuses to share).

    Args:
        buffer: [n], contiguous, the same size, dtype and kind of device on all ranks.
        communicator: The ranks.
    """
    if communicator.size == 1:
        return lambda: None
    if buffer.device.type == "cpu":
        array = buffer.numpy()
        return lambda: communicator.sum_(array)
    own_gpu = str(torch.cuda.get_device_properties(buffer.device).uuid)
    group = connect(communicator, "nccl", own_gpu if dist.is_nccl_available() else None, buffer.device)
    if group is not None:
        return lambda: sum_in_group_(buffer, group)
    staging = torch.empty_like(buffer, device="cpu", pin_memory=True)
    return lambda: sum_staged_(buffer, staging, communicator)


def connect(
    communicator: Communicator, backend: str, own_device: str | None, device: torch.device | None = None
) -> dist.ProcessGroup | None:
    """Make the ranks a process group of ``torch.distributed``, if all can. A collective.

    Every step is agreed on: a rank that fails leaves the others waiting for ``TIMEOUT`` at most.

    Args:
        communicator: The ranks.
        backend: Of ``torch.distributed``.
        own_device: What no two ranks may have in common, such as a GPU's UUID; None: this rank can't.
        device: Where the group's tensors live; None: wherever.

    Returns:
        The group, or None on all ranks.
    """
    devices = communicator.gather(own_device)
    if None in devices or len(set(devices)) < communicator.size:
        return None
    problem = _join(communicator, backend, device)
    if communicator.any(problem is not None):
        if problem is not None:
            warnings.warn(
                f"rank {communicator.rank} can't connect by {backend}: {problem}\n"
                "Gradients are summed by MPI instead, which is slower.",
                stacklevel=2,
            )
        return None
    return dist.group.WORLD


def _join(communicator: Communicator, backend: str, device: torch.device | None) -> Exception | None:
    """Enter the program's process group, unless it is in one; returns what went wrong. A collective."""
    if communicator.any(dist.is_initialized()):
        ours = dist.is_initialized() and (dist.get_rank(), dist.get_world_size()) == (
            communicator.rank,
            communicator.size,
        )
        return None if ours else RuntimeError("the program's process group has other ranks")
    store: TCPStore | None = None
    address: tuple[str, int] | None = None
    problem: Exception | None = None
    try:
        if communicator.is_main:
            host, ranks = socket.gethostname(), communicator.size
            store = TCPStore(host, 0, ranks, is_master=True, timeout=TIMEOUT, wait_for_workers=False)
            address = (host, store.port)
    except (RuntimeError, OSError) as error:
        problem = error
    address = communicator.broadcast(address)
    try:
        if address is not None and store is None:
            host, port = address
            store = TCPStore(host, port, communicator.size, timeout=TIMEOUT, wait_for_workers=False)
    except (RuntimeError, OSError) as error:
        problem = error
    if communicator.any(store is None):
        return problem or RuntimeError("another rank can't")
    try:
        dist.init_process_group(
            backend,
            store=store,
            rank=communicator.rank,
            world_size=communicator.size,
            timeout=TIMEOUT,
            device_id=device,
        )
    except (RuntimeError, OSError, ValueError) as error:
        return error
    atexit.register(dist.destroy_process_group)
    return None


def sum_in_group_(tensor: torch.Tensor, group: dist.ProcessGroup) -> None:
    """Replace a tensor, in place, by its sum over a group's ranks. A collective.

    On a GPU nothing waits for it here but what uses the tensor next.

    Args:
        tensor: Contiguous.
        group: Of ``connect``.
    """
    dist.all_reduce(tensor, group=group)


def sum_staged_(tensor: torch.Tensor, staging: torch.Tensor, communicator: Communicator) -> None:
    """Replace a tensor of a GPU, in place, by its sum over the ranks, by way of the host. A collective.

    Args:
        tensor: Contiguous.
        staging: Like it, on the host; page-locked, so that the copy up need not be waited for.
        communicator: The ranks.
    """
    staging.copy_(tensor)  # waits for what computes the tensor
    communicator.sum_(staging.numpy())
    tensor.copy_(staging, non_blocking=True)
