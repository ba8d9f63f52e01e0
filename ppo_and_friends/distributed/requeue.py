"""Queues a Slurm job again that has saved because its time is over or another job needs its nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping

from ppo_and_friends.errors import UsageError

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
"""Signals at which a job is queued again: those that it asks for itself (``sbatch --signal``, submitit), and
Slurm's own."""

NOT_CANCELLED = ("TimeLimit", "Preempt", "NodeDown", "NodeFail")
"""Beginnings of Slurm's reasons for which a job ends that nobody has cancelled."""

SECONDS = 60
"""How long Slurm may take to answer: a busy controller takes its time."""

OPTION = "--requeue_on_preemption"


def job_id(variables: Mapping[str, str] = os.environ) -> str | None:
    """The number of the Slurm job in which this process runs; of an array, the task's own."""
    return variables.get("SLURM_JOB_ID")


def check_requeue(job: str) -> None:
    """Refuse, before anything is trained, a job that Slurm wouldn't queue again.

    Raises:
        UsageError: Says why.
    """
    status, told = _scontrol("show", "job", "--oneliner", job)
    if status is None:
        raise UsageError(f"{OPTION}: scontrol can't be run: {told}.")
    found = _fields(told)
    if found.get("BatchFlag", "1") == "0":
        raise UsageError(f"{OPTION}: job {job} is no batch job: submit a script with sbatch.")
    if found.get("Requeue", "1") == "0":
        raise UsageError(f"{OPTION}: job {job} may not be queued again: submit it with sbatch --requeue.")


def requeue(job: str, number: int, say: Callable[[str], None]) -> None:
    """Have Slurm queue this job again, which ends it, unless somebody has cancelled it.

    Args:
        job: Its number.
        number: The signal that stopped it; for those that aren't `WARNINGS` nothing is done.
        say: Shows what is done. There may be no time for it afterwards.
    """
    if number not in WARNINGS:
        say(f"Job {job} isn't queued again: it was stopped by {signal.Signals(number).name}.")
        return
    _, told = _scontrol("show", "job", "--oneliner", job)
    found = _fields(told)
    state, reason = (found.get(name, "") for name in ("JobState", "Reason"))
    # scancel sends SIGTERM as well, and Slurm would revive what was cancelled.
    if state == "CANCELLED" or (state == "COMPLETING" and not reason.startswith(NOT_CANCELLED)):
        say(f"Job {job} was cancelled, so it isn't queued again.")
        return
    say(f"Job {job} is queued again.")
    status, told = _scontrol("requeue", job)
    if status != 0 and "pending" not in told.lower():  # Slurm was faster
        say(f"Slurm refuses that: {told}. Submit it again to go on.")


def _scontrol(*arguments: str) -> tuple[int | None, str]:
    """Slurm's answer, or what went wrong; the status is None if the command can't be run."""
    try:
        done = subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except OSError as error:
        return None, error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {SECONDS} s"
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()


def _fields(shown: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", shown))
