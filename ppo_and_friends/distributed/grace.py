"""How long a job lives on after a signal, and giving up a rollout that would take longer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ppo_and_friends.distributed.communicator import Communicator

KILL_WAIT = 30.0
"""Slurm's default KillWait: seconds from SIGTERM to SIGKILL."""

SAVING = 5.0
"""Seconds kept for saving, or a fifth of the grace time if that is less."""

LISTENING = 0.1
"""Seconds between two looks for what another rank has to say."""


class RolloutGivenUp(Exception):
    """The job ends before this rollout would; raised on all ranks. Nothing was learned from it."""


@dataclass(frozen=True)
class Grace:
    """Seconds from a signal to the end of the job; equal on all ranks."""

    seconds: float | None = None
    """After any signal, as the user says; None: as the scheduler does."""

    kill_wait: float | None = None
    """After SIGTERM; None: no known limit."""

    job_end: float | None = None
    """When the job's time is over, as a Unix time; None: unknown."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self != Grace()

    def after(self, number: int) -> float | None:
        """Seconds that are left after a signal; None: no known limit."""
        if self.seconds is not None:
            return self.seconds
        if number == signal.SIGTERM:
            return self.kill_wait
        if number in (signal.SIGUSR1, signal.SIGUSR2) and self.job_end is not None:
            return max(0.0, self.job_end - time.time())
        return None


def find_grace(seconds: float | None, variables: Mapping[str, str] = os.environ) -> Grace:
    """The grace time that the user or the scheduler gives.

    Args:
        seconds: What the user says; None: nothing.
        variables: The environment's, in which Slurm tells of its jobs.
    """
    if seconds is not None or "SLURM_JOB_ID" not in variables:
        return Grace(seconds)
    end = variables.get("SLURM_JOB_END_TIME", "")
    return Grace(None, _kill_wait(), float(end) if end.isdigit() else None)


def _kill_wait() -> float:
    try:
        shown = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return KILL_WAIT
    found = re.search(r"^KillWait\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    return float(found[1]) if found else KILL_WAIT


class Deadline:
    """When a job that was told to stop will be killed.

    Args:
        communicator: The ranks, any of which may have been told.
        grace: How long the job lives on; the same on all ranks.
        clock: Seconds since any moment.
    """

    def __init__(
        self, communicator: Communicator, grace: Grace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._communicator, self._grace, self._clock = communicator, grace, clock
        self._at: float | None = None
        self._untold, self._listened = False, 0.0
        self.reserve = 0.0
        """Seconds that the rest of an iteration takes, after its rollout."""
        self._saving = SAVING

    def signalled(self, number: int) -> float | None:
        """Note a signal, inside its handler; returns the seconds that it leaves, None: no known limit.

        Of several signals the one that leaves the least counts.
        """
        left = self._grace.after(number)
        if left is not None and self._set(left):
            self._untold = True
        return left

    def near(self) -> bool:
        """Whether a rollout should be given up now, as far as this rank knows. Cheap, and no collective."""
        now = self._clock()
        self._listen(now)
        if self._untold and self._at is not None:
            self._untold = False
            self._communicator.tell(max(0, round(1000 * (self._at - now))))
        return self._at is not None and now + self._saving + self.reserve > self._at

    def agreed_near(self) -> bool:
        """The same for all ranks: whether it is near for any. A collective."""
        return self._communicator.any(self.near())

    def seen_by(self, communicator: Communicator) -> Deadline:
        """The same deadline, on which a shard agrees with all others by its own communicator."""
        return _SharedDeadline(self, communicator)

    def _set(self, left: float) -> bool:
        """Note what is left; returns whether that is less than was known."""
        at = self._clock() + left
        if self._at is not None and at >= self._at:
            return False
        self._at, self._saving = at, min(SAVING, left / 5)
        return True

    def _listen(self, now: float) -> None:
        if self._communicator.size == 1 or now - self._listened < LISTENING:
            return
        self._listened = now
        while (heard := self._communicator.heard()) is not None:
            self._set(heard / 1000)


class _SharedDeadline(Deadline):
    """A process's deadline, seen by one of its shards."""

    def __init__(self, inner: Deadline, communicator: Communicator) -> None:
        super().__init__(communicator, inner._grace, inner._clock)
        self._inner = inner

    def near(self) -> bool:
        """As the process knows it."""
        self._inner.reserve = self.reserve
        return self._inner.near()
