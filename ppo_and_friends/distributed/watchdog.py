"""Ends a job that stands still: an environment never returns, a rank is stopped, a file system blocks."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.local_launcher import end_launcher_later
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import FAILURE

LAST_WORDS = 3.0
"""Seconds from this rank's report to the end of the job, in which the other ranks report. With a longer
patience they are more, up to a minute: others may have noticed later, at the end of their rollouts."""

START_SECONDS = 60.0
"""The least patience until something was done for the first time: libraries are loaded, processes start."""

FRAMES = 6
"""Innermost lines of the main thread's stack that are shown."""

DEBUGGERS = ("bdb.py", "pdb.py", "pydevd.py", "debugpy")
"""Files whose frames mean that somebody is looking at the program."""

WAITING = ("mpi_communicator.py", "threaded_communicator.py")
"""Files in which a rank waits for the others."""


class Watchdog:
    """A thread that ends the job if the main thread has done nothing for a long time. A context manager.

    Time passes only while this process runs: a suspended job isn't a standing one. A rank that waits for
    another stands still as well, so every rank says where it is, and any of them ends all.

    Args:
        communicator: The ranks.
        seconds: How long nothing may happen; 0: never ends anything.
        place: Where the training is, in words.
        say: Shows the report.
        end: Ends this process, for tests; None: the whole job, at once.
    """

    def __init__(
        self,
        communicator: Communicator,
        seconds: float,
        place: Callable[[], str],
        say: Callable[[str], None] | None = None,
        end: Callable[[], None] | None = None,
    ) -> None:
        self._communicator, self._seconds, self._place = communicator, seconds, place
        self._say, self._end = say or _say, end or self._end_job
        self._done = threading.Event()
        self._armed = False
        self._watched = threading.get_ident()

    def __enter__(self) -> Self:
        """Begin to watch this thread."""
        if self._seconds > 0:
            self._watched = threading.get_ident()
            if signal.getsignal(signal.SIGPROF) == signal.SIG_DFL:  # no profiler's
                # Written by C code, without the lock: where each thread is. Then the signal ends the process.
                faulthandler.register(signal.SIGPROF, file=2, all_threads=True, chain=True)
                self._armed = True
            self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
            self._thread.start()
        return self

    def _arm(self) -> None:
        """Have the system end this process if this isn't called again.

        A simulator's endless loop may keep the interpreter's lock, and this thread with it. The system
        counts processor seconds, over all threads, so that a suspended process is spared.
        """
        if self._armed:
            signal.setitimer(signal.ITIMER_PROF, self._seconds * (os.cpu_count() or 1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._done.set()
        if self._armed:
            self._thread.join()
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            faulthandler.unregister(signal.SIGPROF)
            self._armed = False

    def _watch(self) -> None:
        tick = min(1.0, self._seconds / 20)
        first, still = PULSE.beats, 0.0
        beats = first
        self._arm()
        while not self._done.wait(tick):
            self._arm()
            # Ticks are counted instead of asking the clock, which goes on while the process is stopped.
            still = still + tick if PULSE.beats == beats else 0.0
            beats = PULSE.beats
            if still < (self._seconds if beats != first else max(self._seconds, START_SECONDS)):
                continue
            if self._debugged():
                still = 0.0
                continue
            self._say(self._report())
            if self._done.wait(min(60.0, LAST_WORDS + self._seconds / 10)) or PULSE.beats != beats:
                still = 0.0  # in the last moment
                continue
            self._end()
            return

    def _frames(self) -> Iterator[FrameType]:
        """The watched thread's frames, innermost first; of shards, those of the one whose turn it is."""
        frame = sys._current_frames().get(self._watched)
        while frame is not None:
            yield frame
            frame = frame.f_back

    def _debugged(self) -> bool:
        return _traced() or any(
            debugger in frame.f_code.co_filename for frame in self._frames() for debugger in DEBUGGERS
        )

    def _report(self) -> str:
        frames = list(self._frames())
        rank = f"rank {self._communicator.rank}, " if self._communicator.size > 1 else ""
        where = [found for frame in frames if (found := _whereabouts(frame.f_locals.get("self")))]
        waits = any(frame.f_code.co_filename.endswith(WAITING) for frame in frames)
        what = where[0] if where else "waiting for the other ranks" if waits else "stands here"
        lines = [
            f"  {Path(line.filename).name}:{line.lineno} in {line.name}: {line.line}"
            for line in traceback.StackSummary.extract((each, each.f_lineno) for each in frames[:FRAMES])
        ]
        return (
            f"Nothing was done for {self._seconds:,.0f} s (stall_timeout). {rank}{self._place()}: {what}\n"
            + "\n".join(lines)
        )

    def _end_job(self) -> None:
        """End all ranks and all processes of environments, whatever they are doing."""
        for process in multiprocessing.active_children():
            process.kill()
        if self._communicator.size > 1:
            end_launcher_later()
            self._communicator.abort(FAILURE)
        os._exit(FAILURE)


def _whereabouts(owner: Any) -> str:
    """Where an object says that it is, if it has anything to say: see ``CheckedEnv.whereabouts``."""
    try:
        found = getattr(owner, "whereabouts", None)
        return str(found()) if callable(found) else ""
    except Exception:  # an object in the midst of a change
        return ""


def _traced() -> bool:
    """Whether a debugger is attached to this process, as Linux tells."""
    try:
        return "TracerPid:\t0\n" not in Path("/proc/self/status").read_text()
    except OSError:
        return False


def _say(text: str) -> None:
    """In one piece, past Python's buffers, which the main thread may hold."""
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        return
