"""The MPI launcher's own process, where it runs on this node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

NAMES = ("mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun")
"""Launchers that are worth nothing without their ranks. Not srun: Slurm ends it."""

PROXIES = ("hydra_pmi_proxy", "prted", "orted")
"""What may stand between a launcher and its ranks."""

PATIENCE = 10
"""Seconds that a launcher has to end by itself, after its ranks."""


def find_launcher(process: int | None = None, system: Path = Path("/proc")) -> tuple[int, str] | None:
    """The process id and name of the launcher above a process.

    Args:
        process: Where to begin; None: at this process.
        system: Where Linux describes processes.

    Returns:
        None if there is none on this node, or it can't be told.
    """
    process = os.getppid() if process is None else _parent(process, system)
    while process is not None and process > 1:
        try:
            name = (system / str(process) / "comm").read_text().strip()
        except OSError:
            return None
        if name in NAMES:
            return process, name
        if name[:15] not in [proxy[:15] for proxy in PROXIES]:  # as many letters as Linux keeps
            return None
        process = _parent(process, system)
    return None


def end_launcher_later() -> None:
    """End the launcher if it is still there in some seconds: it may wait for a node that is out of reach."""
    found = find_launcher()
    if found is None:
        return
    process, name = found
    there = f'[ "$(cat /proc/{process}/comm 2>/dev/null)" = {name} ]'
    script = f"sleep {PATIENCE}; {there} && kill {process}; sleep 3; {there} && kill -9 {process}"
    nowhere = subprocess.DEVNULL
    subprocess.Popen(
        ["sh", "-c", script], stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
    )


def _parent(process: int, system: Path) -> int | None:
    try:
        # pid (name) state parent ...; the name may hold anything.
        fields = (system / str(process) / "stat").read_text().rpartition(")")[2].split()
        return int(fields[1])
    except (OSError, ValueError, IndexError):
        return None
