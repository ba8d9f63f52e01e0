"""Signals that end a job: to one rank, to all, to the launcher."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.fault_cases import SECONDS, Case, arguments, complete, iterations, newest, started
from benchmarks.faults_kills import ranks_of, wait_until_gone
from ppo_and_friends.distributed.interrupts import SIGNALS

LONG = 10**8
"""Timesteps: more than a run gets to."""

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What MPICH's mpirun hands to its ranks."""

PROMISE = "agreed on, saved, status 128 + signal; no process left; resumed"


def signals(rounds: int, chance: random.Random) -> list[Case]:
    """Send a random signal at a random moment, to each kind of receiver in turn."""
    cases = [Case(f"a signal to {who}", PROMISE) for who in ("one rank", "all ranks", "the launcher")]
    for number in range(rounds):
        case = cases[number % len(cases)]
        with tempfile.TemporaryDirectory() as place:
            case.judge(_stopped(Path(place), number % len(cases), chance))
    return [case for case in cases if case.tries]


def _stopped(home: Path, whom: int, chance: random.Random) -> str | None:
    ranks = chance.randint(1, 3)
    number = chance.choice(PASSED_ON if whom == 2 and ranks > 1 else SIGNALS)
    more = ["--set=checkpoint_seconds=3600", f"--set=environment.backend={chance.choice(['auto', 'async'])}"]
    tried = f"{number.name}, {ranks} ranks, {more[1].rpartition('=')[2]}"
    job = started(arguments(home, LONG, *more), ranks=ranks)
    begun = time.monotonic()
    while len(iterations(home)) < 2 and time.monotonic() - begun < SECONDS:
        time.sleep(0.05)
    time.sleep(chance.uniform(0.0, 1.0))
    found = ranks_of(job) if ranks > 1 else [job.pid]
    receivers = {0: [chance.choice(found)], 1: found, 2: [job.pid]}[whom]
    for process in receivers:
        os.kill(process, number)
    try:
        status = job.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        return f"{tried}: hangs"
    last, rows = newest(home), iterations(home)
    if status != 128 + number:
        return f"{tried}: status {status}"
    if last is None or last.state["iteration"] != len(rows):
        return f"{tried}: {len(rows)} iterations, not the last saved"
    if wait_until_gone([*found, job.pid]):
        return f"{tried}: processes are left"
    wanted = last.timesteps + 200
    again = started(arguments(home, wanted, *more, "--accept_changes"), ranks=chance.randint(1, 2))
    problem = complete(home, wanted) if again.wait(SECONDS) == 0 else "doesn't resume"
    return f"{tried}: {problem}" if problem else None
