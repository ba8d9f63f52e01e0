"""Summing a flat buffer over the ranks: over MPI in place, over MPI through host memory, or with NCCL."""

from __future__ import annotations

import atexit
import os
import socket
import warnings
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from ppo_and_friends.distributed.communicator import Communicator

Sum = Callable[[], None]
"""Replaces the buffer it was made for with the buffer's sum over the ranks. Collective."""

CONNECT_TIMEOUT = timedelta(seconds=30)
"""How long a rank tries to connect to rank 0 before all ranks fall back to summing through host memory."""

SUM_TIMEOUT = timedelta(minutes=10)
"""How long a sum waits for another rank before the job is aborted."""

SWITCH = "PPO_AND_FRIENDS_NCCL"
"""Environment variable; if it is 0 on any rank, gradients on GPUs are summed through host memory."""


def make_sum(buffer: torch.Tensor, communicator: Communicator) -> Sum:
    """Return the fastest function that sums a buffer over the ranks. Collective, as is each call of it.

    With one rank, the function does nothing. CPU buffers are summed in place by MPI. GPU buffers are
    summed by NCCL if every rank has a GPU of its own, and otherwise through host memory, because NCCL
    does not allow ranks to share a GPU. So are those of shards, whose sums have an order.

    Args:
        buffer: [n], contiguous, of the same size, dtype and device type on all ranks.
        communicator: The ranks.
    """
    if communicator.size == 1:
        return lambda: None
    if buffer.device.type == "cpu":
        array = buffer.numpy()
        return lambda: communicator.sum_(array)
    if connect(communicator, "nccl", _own_gpu(buffer.device, communicator)):
        # The first sum connects the GPUs. A failure here ends the job, because some ranks may hang in it.
        dist.all_reduce(buffer.new_zeros(1))
        torch.cuda.synchronize(buffer.device)
        return lambda: sum_in_group_(buffer)
    staging = torch.empty_like(buffer, device="cpu", pin_memory=True)
    return lambda: sum_staged_(buffer, staging, communicator)


def _own_gpu(device: torch.device, communicator: Communicator) -> str | None:
    """The UUID of a GPU with which NCCL may sum; None: it may not."""
    usable = dist.is_available() and dist.is_nccl_available() and os.environ.get(SWITCH) != "0"
    if not usable or communicator.has_fixed_order:
        return None
    return str(torch.cuda.get_device_properties(device).uuid)


def connect(communicator: Communicator, backend: str, own_device: str | None) -> bool:
    """Set up the process group of ``torch.distributed``, if all ranks can join it. Collective.

    All ranks agree after every step, so that a rank that fails leaves no other rank waiting.

    Args:
        communicator: The ranks.
        backend: The backend of ``torch.distributed``.
        own_device: A device identifier that no two ranks may share, such as a GPU's UUID; None if
            this rank can't join.

    Returns:
        Whether the group exists; the same on all ranks.
    """
    devices = communicator.gather(own_device)
    if None in devices or len(set(devices)) < communicator.size:
        return False
    if communicator.any(dist.is_initialized()):
        # A second training run in this process finds the first run's group, or one made by other code.
        expected = (communicator.rank, communicator.size, backend)
        found = dist.is_initialized() and (dist.get_rank(), dist.get_world_size(), dist.get_backend())
        problem = None if found == expected else "the process already has a different process group"
    else:
        problem = _join(communicator, backend)
    problems = communicator.gather(problem)
    if not any(problems):
        return True
    if communicator.is_main:
        first = next(rank for rank, problem in enumerate(problems) if problem)
        warnings.warn(
            f"rank {first} can't connect with {backend}: {problems[first]}\n"
            "Gradients will be summed over MPI through host memory, which is slower.",
            stacklevel=2,
        )
    return False


def _join(communicator: Communicator, backend: str) -> str | None:
    """Join a new process group, on all ranks or on none. Collective.

    Returns:
        None if the group exists on all ranks; otherwise what went wrong on this rank, if anything did.
    """
    # Imported here, because not every build of torch has it.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    hosts = communicator.gather(socket.gethostname())
    host = "127.0.0.1" if len(set(hosts)) == 1 else hosts[0]
    problem, store, port = None, None, 0
    # Rank 0 opens a port chosen by the system and broadcasts its number; then the other ranks connect.
    for turn in (True, False):
        try:
            if communicator.is_main == turn and (turn or port):
                store = TCPStore(
                    host,
                    port,
                    communicator.size,
                    is_master=turn,
                    timeout=CONNECT_TIMEOUT,
                    wait_for_workers=False,
                )
                port = store.port
        except (RuntimeError, OSError) as error:
            problem = str(error)
        port = communicator.broadcast(port)
    if not communicator.any(store is None):
        try:
            dist.init_process_group(
                backend,
                store=store,
                rank=communicator.rank,
                world_size=communicator.size,
                timeout=SUM_TIMEOUT,
            )
        except (RuntimeError, OSError, ValueError) as error:
            problem = str(error)
    if communicator.any(not dist.is_initialized()):
        _leave()
        return problem
    atexit.register(_leave)
    return None


def _leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_in_group_(tensor: torch.Tensor) -> None:
    """Replace a tensor, in place, with its sum over the process group's ranks. Collective.

    On a GPU the call is asynchronous: only later operations on the tensor wait for it.

    Args:
        tensor: Contiguous.
    """
    dist.all_reduce(tensor)


def sum_staged_(tensor: torch.Tensor, staging: torch.Tensor, communicator: Communicator) -> None:
    """Replace a GPU tensor, in place, with its sum over the ranks, through host memory. Collective.

    Args:
        tensor: Contiguous.
        staging: A tensor of the same shape and dtype in host memory, page-locked so that the copy back
            to the GPU can be asynchronous.
        communicator: The ranks.
    """
    staging.copy_(tensor)  # waits until the tensor has been computed
    communicator.sum_(staging.numpy())
    tensor.copy_(staging, non_blocking=True)
