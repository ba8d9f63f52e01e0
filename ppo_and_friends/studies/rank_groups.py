"""Trains a study's runs inside one MPI job, whose ranks are divided into groups."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ppo_and_friends.api.run import Interrupted, Run
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.studies.board import DONE, FAILED, STOPPED, Board
from ppo_and_friends.studies.plan import StudyRun, is_finished

CLAIMS = ".claims"


def divide_into_groups(world: Communicator, size: int | None) -> tuple[Communicator, int]:
    """Divide the ranks into groups of neighbours. Collective.

    Args:
        world: All ranks.
        size: Ranks in a group; None: one group of all ranks.

    Returns:
        This rank's group, and its number.

    Raises:
        UsageError: The size doesn't divide the number of ranks.
    """
    size = world.size if size is None else size
    if size < 1 or world.size % size:
        raise UsageError(
            f"--group {size} doesn't divide the {world.size} ranks: choose a size that does, or start "
            "another number of ranks (mpirun -n)."
        )
    return world.split(world.rank // size), world.rank // size


class Claims:
    """Hands out numbers 0, 1, ... to groups, each once, by files in a folder that all ranks see."""

    def __init__(self, world: Communicator, folder: Path) -> None:
        """Agree on a folder of this job alone. Collective."""
        token = world.broadcast(f"{time.time_ns()}-{os.getpid()}")
        self._folder = folder / CLAIMS / token
        on_main(world, lambda: self._folder.mkdir(parents=True))
        self._next = 0

    def take(self, count: int) -> int | None:
        """The next number below ``count`` that nobody has; None: there is none left."""
        while self._next < count:
            number, self._next = self._next, self._next + 1
            try:
                os.close(os.open(self._folder / str(number), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return number
        return None

    def close(self) -> None:
        """Remove the folder; called by one rank, when all have ended."""
        for path in self._folder.glob("*"):
            path.unlink(missing_ok=True)
        for folder in (self._folder, self._folder.parent):
            with suppress(OSError):
                folder.rmdir()


Open = Callable[[StudyRun, Communicator], Run]
"""Opens a run for a group, with whatever it reports to."""


def train_in_groups(
    runs: Sequence[StudyRun], world: Communicator, size: int | None, folder: Path, open_run: Open
) -> int:
    """Train all runs that aren't finished, as many at once as there are groups. Collective.

    A group takes the next run as soon as it is free. A run that fails on all its ranks is noted and the
    group goes on; a rank that fails alone ends the whole job, which can be started again.

    Args:
        runs: The study; equal on all ranks.
        world: All ranks.
        size: Ranks in a group.
        folder: The study's, on a file system that all ranks share.
        open_run: Opens each.

    Returns:
        0; 1 if a run failed; the exit status of a signal that stopped the study.
    """
    group, number = divide_into_groups(world, size)
    unfinished = on_main(world, lambda: [i for i, run in enumerate(runs) if not is_finished(run)])
    claims = Claims(world, folder)
    outcomes: dict[int, tuple[str, str]] = {}
    status = 0
    while not status:
        taken = group.broadcast(claims.take(len(unfinished)) if group.is_main else None)
        if taken is None:
            break
        index = unfinished[taken]
        run = runs[index]
        _say(group, f"group {number}: {run.label} begins")
        outcome, reason = DONE, ""
        try:
            open_run(run, group).finish()
        except Interrupted as stop:
            outcome, status = STOPPED, stop.exit_code
        except PPOError as error:
            outcome, reason = FAILED, str(error).partition("\n")[0]
        except Exception as error:  # whatever an environment's code raised on all ranks of the group
            outcome, reason = FAILED, f"{type(error).__name__}: {error}"
        outcomes[index] = outcome, reason
        _say(group, f"group {number}: {run.label} {outcome} {reason}".rstrip())
    found = {key: value for each in world.gather(outcomes) for key, value in each.items()}
    statuses = world.gather(status)
    if world.is_main:
        claims.close()
        _show(runs, unfinished, found)
    return max(statuses) or int(any(state == FAILED for state, _ in found.values()))


def _say(group: Communicator, text: str) -> None:
    if group.is_main:
        print(text, flush=True)


def _show(runs: Sequence[StudyRun], unfinished: Sequence[int], found: dict[int, tuple[str, str]]) -> None:
    with Board(runs, sys.stdout) as board:
        for index, run in enumerate(runs):
            if index not in unfinished:
                board.states[run.folder] = DONE
            elif index in found:
                board.states[run.folder], board.reasons[run.folder] = found[index]
