"""How many CPU cores are available to this process, and to each rank on a node."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ppo_and_friends.distributed.communicator import Communicator

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def affinity() -> frozenset[int]:
    """Return the cores on which the operating system lets this process run."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _folders(root: Path, member: str) -> Iterator[Path]:
    """Yield a control group's folder and its ancestors; a limit set on any of them applies."""
    folder = root / member.lstrip("/")
    yield folder
    yield from (parent for parent in folder.parents if parent.is_relative_to(root))


def cpu_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the CPU limit set by control groups (v1 or v2), as containers use, in cores.

    Args:
        root: Where control groups are mounted.
        membership: The file that lists the control groups of this process.

    Returns:
        The smallest limit that applies, possibly fractional; None if there is none.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        hierarchy, controllers, member = line.split(":", 2)
        if hierarchy == "0":  # version 2: a single file holds "quota period" or "max period"
            for folder in _folders(root, member):
                words = _read(folder / "cpu.max")
                if len(words) == 2 and words[0] != "max":
                    quotas.append(int(words[0]) / int(words[1]))
        elif "cpu" in controllers.split(","):
            for mount in (root / "cpu", root / controllers):
                for folder in _folders(mount, member):
                    quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
                    if quota and period and int(quota[0]) > 0:
                        quotas.append(int(quota[0]) / int(period[0]))
    return min(quotas, default=None)


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, limited by the container's quota; >= 1."""
    quota = cpu_quota()
    count = len(affinity())
    return count if quota is None else max(1, min(count, math.floor(quota)))


def threads_per_rank(comm: Communicator) -> int:
    """Return this rank's fair share of its node's cores, at least 1. Collective.

    A core that k ranks of the node may use counts as 1/k for each of them. Ranks that the MPI
    launcher (mpirun, srun) bound to separate cores therefore get all of their own.
    """
    nodes = comm.gather((socket.gethostname(), affinity(), cpu_quota()))
    host, own, quota = nodes[comm.rank]
    here = [cores for name, cores, _ in nodes if name == host]
    share = sum(1.0 / sum(core in cores for cores in here) for core in own)
    if quota is not None:
        share = min(share, quota / len(here))
    return max(1, math.floor(share + 1e-9))
