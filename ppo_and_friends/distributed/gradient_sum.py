"""Summing a flat buffer over the ranks: in place over MPI, by way of the host, or from GPU to GPU."""

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
"""Replaces the buffer it was made for by its sum over the ranks. A collective."""

CONNECT_TIMEOUT = timedelta(seconds=30)
"""How long a rank looks for rank 0 before all go by way of the host."""

SUM_TIMEOUT = timedelta(minutes=10)
"""How long a sum waits for a rank before it ends the job."""

SWITCH = "PPO_AND_FRIENDS_NCCL"
"""Environment variable; 0 on any rank: GPUs' gradients go by way of the host."""


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
    usable = dist.is_available() and dist.is_nccl_available() and os.environ.get(SWITCH) != "0"
    own_gpu = str(torch.cuda.get_device_properties(buffer.device).uuid) if usable else None
    if connect(communicator, "nccl", own_gpu):
        # The group's first sum connects the GPUs. What goes wrong there ends the job: some may hang in it.
        dist.all_reduce(buffer.new_zeros(1))
        torch.cuda.synchronize(buffer.device)
        return lambda: sum_in_group_(buffer)
    staging = torch.empty_like(buffer, device="cpu", pin_memory=True)
    return lambda: sum_staged_(buffer, staging, communicator)


def connect(communicator: Communicator, backend: str, own_device: str | None) -> bool:
    """Make the ranks the process group of ``torch.distributed``, if all can. A collective.

    Every step is agreed on, so that a rank that can't leaves no other one waiting.

    Args:
        communicator: The ranks.
        backend: Of ``torch.distributed``.
        own_device: What no two ranks may have in common, such as a GPU's UUID; None: this rank can't.

    Returns:
        Whether the group is there; the same on all ranks.
    """
    devices = communicator.gather(own_device)
    if None in devices or len(set(devices)) < communicator.size:
        return False
    if communicator.any(dist.is_initialized()):
        # A second training in this program finds the first one's group, or somebody else's.
        expected = (communicator.rank, communicator.size, backend)
        found = dist.is_initialized() and (dist.get_rank(), dist.get_world_size(), dist.get_backend())
        problem = None if found == expected else "the program has another process group"
    else:
        problem = _join(communicator, backend)
    problems = communicator.gather(problem)
    if not any(problems):
        return True
    if communicator.is_main:
        first = next(rank for rank, problem in enumerate(problems) if problem)
        warnings.warn(
            f"rank {first} can't connect by {backend}: {problems[first]}\n"
            "Gradients are summed by MPI, by way of the host, which is slower.",
            stacklevel=2,
        )
    return False


def _join(communicator: Communicator, backend: str) -> str | None:
    """Enter a new process group with the other ranks, or none does; returns what went wrong. A collective."""
    # Not at the top: not every build of torch has it.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    hosts = communicator.gather(socket.gethostname())
    host = "127.0.0.1" if len(set(hosts)) == 1 else hosts[0]
    problem, store, port = None, None, 0
    # Rank 0 opens a port of the system's choice; then the others, who learn it, come.
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
    """End the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_in_group_(tensor: torch.Tensor) -> None:
    """Replace a tensor, in place, by its sum over the process group's ranks. A collective.

    On a GPU nothing waits for it here but what uses the tensor next.

    Args:
        tensor: Contiguous.
    """
    dist.all_reduce(tensor)


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
