"""Kill -9 at random moments, and at every file operation of a checkpoint; then the same command again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fault_cases import (
    SECONDS,
    Case,
    arguments,
    complete,
    differing,
    in_child,
    iterations,
    newest,
    started,
)
from ppo_and_friends.runs.checkpoint import Checkpoint

TIMESTEPS = 640
"""About ten iterations, with a checkpoint each."""

LONGER = 200_000
"""Of runs that are killed at a random moment: more than they get to."""

OPERATIONS = (
    "open",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.listdir",
    "os.scandir",
    "os.truncate",
)
"""Python's audit events of what changes or reads files."""

PROMISE = "no save lost, no row twice or missing; resumed to the end"
EQUAL = f"{PROMISE}, with the numbers of a run that wasn't killed"


def is_below(folder: str, event: str, details: tuple[object, ...]) -> bool:
    """Whether an audit event is a file operation below a folder."""
    path = details[0] if event in OPERATIONS and details else None
    return isinstance(path, str) and path.startswith(folder)


def count_operations(folder: Path, into: Path) -> None:
    """From now on, write a byte to a file for each file operation below a folder."""
    place, out = os.fspath(folder), into.open("wb", buffering=0)
    sys.addaudithook(lambda event, details: out.write(b".") if is_below(place, event, details) else None)


def die_at(number: int, folder: Path) -> None:
    """From now on, kill this process right before its ``number``-th file operation below a folder."""
    count, place = 0, os.fspath(folder)

    def watch(event: str, details: tuple[object, ...]) -> None:
        nonlocal count
        if is_below(place, event, details):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def file_operations(rounds: int, chance: random.Random) -> Case:
    """Kill a run before a file operation, at each of them in turn, in steps so that ``rounds`` are tried.

    A run of two checkpoints is resumed, so that the third makes the first one's removal due as well.
    """
    case = Case("kill -9 at a file operation of a checkpoint", EQUAL)
    with tempfile.TemporaryDirectory() as place:
        whole, begun = Path(place) / "whole", Path(place) / "begun"
        assert in_child(arguments(whole, TIMESTEPS)).status == 0
        reference = newest(whole)
        assert reference is not None
        total = _count(Path(place) / "counted")
        numbers = sorted(chance.sample(range(1, total + 1), min(rounds, total)))
        for number in numbers:
            home = begun.with_name(f"killed-{number}")
            case.judge(_killed_at(number, home, reference))
    return case


def _count(home: Path) -> int:
    """How many file operations below its checkpoints a run of `TIMESTEPS` has."""
    place = home.with_suffix(".txt")

    def write_count() -> None:
        count_operations(home, place)

    assert in_child(arguments(home, TIMESTEPS), write_count).status == 0
    return len(place.read_bytes())


def _killed_at(number: int, home: Path, reference: Checkpoint) -> str | None:
    ended = in_child(arguments(home, TIMESTEPS), lambda: die_at(number, home))
    if ended.status != -signal.SIGKILL:
        return f"operation {number}: ended with {ended.status}"
    problem = _nothing_lost(home)
    if problem:
        return f"operation {number}: {problem}"
    again = in_child(arguments(home, TIMESTEPS))
    last = newest(home)
    if again.status != 0 or last is None:
        return f"operation {number}: resumed with {again.status}: {again.text[-200:]}"
    different = differing(reference, last)
    return complete(home, TIMESTEPS) or (f"operation {number}: {different} differs" if different else None)


def _nothing_lost(home: Path) -> str | None:
    """A row of an iteration is written before its checkpoint, so at most the last row's may be missing."""
    rows, last = iterations(home), newest(home)
    saved = 0 if last is None else last.state["iteration"]
    if last is not None and last.notes:
        return last.notes[0]
    return None if saved >= len(rows) - 1 else f"{len(rows)} rows, but iteration {saved} is the last saved"


def moments(rounds: int, chance: random.Random) -> list[Case]:
    """Kill a random rank, the launcher or all at once at random moments; resume on 1 to 4 ranks."""
    cases = [
        Case(f"kill -9 of {who} at a random moment, resumed on 1 to 4 ranks", f"{PROMISE}; no process left")
        for who in ("a random rank", "mpirun", "all ranks and mpirun at once")
    ]
    for number in range(rounds):
        case = cases[number % len(cases)]
        with tempfile.TemporaryDirectory() as place:
            case.judge(_killed_midway(Path(place), number % len(cases), chance))
    return [case for case in cases if case.tries]


def _killed_midway(home: Path, whom: int, chance: random.Random) -> str | None:
    job = started(arguments(home, LONGER), ranks=chance.randint(2, 3))
    begun = time.monotonic()
    while newest(home) is None and time.monotonic() - begun < SECONDS:
        time.sleep(0.05)
    time.sleep(chance.uniform(0.0, 1.5))
    ranks = ranks_of(job)
    doomed = {0: [chance.choice(ranks)] if ranks else [], 1: [job.pid], 2: [*ranks, job.pid]}[whom]
    for process in doomed:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        job.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        return "the job hangs"
    left = wait_until_gone([*ranks, job.pid])
    if left:
        for process in left:
            os.kill(process, signal.SIGKILL)
        return f"{len(left)} processes left after {SECONDS / 4:g} s"
    problem = _nothing_lost(home)
    last = newest(home)
    if problem or last is None:
        return problem or "nothing was saved"
    wanted = last.timesteps + 200
    ranks_now = chance.randint(1, 4)
    again = started(arguments(home, wanted, "--accept_changes"), ranks=ranks_now)
    try:
        status = again.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(again.pid, signal.SIGKILL)
        return f"resumed on {ranks_now} ranks: hangs"
    return complete(home, wanted) if status == 0 else f"resumed on {ranks_now} ranks: status {status}"


def _children() -> dict[int, list[int]]:
    """The processes on this machine by their parent's number, without those that have ended."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found.setdefault(int(parent), []).append(int(entry.name))
    return found


def ranks_of(job: subprocess.Popen[bytes]) -> list[int]:
    """The processes that run ``main.py`` below a launcher."""
    children, found, look = _children(), list[int](), [job.pid]
    while look:
        for process in children.get(look.pop(), []):
            look.append(process)
            try:
                if b"main.py" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0", 3)[1:2][0]:
                    found.append(process)
            except (OSError, IndexError):
                continue
    return found


def wait_until_gone(processes: list[int]) -> list[int]:
    """Those of the processes that are still there after a while."""
    until = time.monotonic() + SECONDS / 4
    while True:
        alive = {process for group in _children().values() for process in group}
        left = [process for process in processes if process in alive]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)
