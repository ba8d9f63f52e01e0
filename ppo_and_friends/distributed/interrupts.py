"""Ctrl-C and the batch system's warnings: finish the iteration, save, then end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what `kill` and Slurm's time limit send; what `sbatch --signal=USR1@120` sends before it."""

ECHO_SECONDS = 0.3
"""Under a launcher, a SIGINT this soon after one is the same Ctrl-C, sent by both terminal and launcher."""


def _say(text: str) -> None:
    """Write past Python's buffers, which the interrupted code may be in the middle of filling."""
    try:
        os.write(2, f"\n{text}\n".encode())
    except OSError:
        return


class Interrupts:
    """Turns the first signal into a request to stop, and a second Ctrl-C into leaving at once.

    Enter it before making environments in other processes: these inherit the handlers, in which
    Ctrl-C (that a terminal sends to all of them) is left to this process, and SIGTERM ends them.
    In a thread other than the main one, where Python has no signals, it does nothing.

    Args:
        comm: The communicator of the program, by which ``agreed`` asks all ranks.
        announce: Tells the user what happens; called inside a signal handler, on rank 0 alone.

    Attributes:
        signal: The first signal that came; None: none yet, go on.
    """

    def __init__(self, comm: Communicator | None = None, announce: Callable[[str], None] = _say) -> None:
        self._comm = comm or SoloCommunicator()
        self._announce = announce
        self._previous: dict[signal.Signals, Any] = {}
        self._process = 0
        self._last_interrupt = 0.0
        self.signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The shell's status for the signal (130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1); 0: none."""
        return 0 if self.signal is None else 128 + int(self.signal)

    def announce_by(self, shown: Callable[[str], bool]) -> None:
        """Announce by ``shown``, and in the old way where it gives False; it must be safe in a handler."""
        fallback = self._announce

        def announce(text: str) -> None:
            if not shown(text):
                fallback(text)

        self._announce = announce

    def agreed(self) -> bool:
        """Whether any rank was asked to stop. A collective; all ranks then have the same exit code."""
        code = np.array([self.exit_code], dtype=np.int64)
        self._comm.max_(code)
        if code[0]:
            self.signal = signal.Signals(int(code[0]) - 128)
        return bool(code[0])

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: a handler that Python didn't install and can't put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._handle_in_child(number)
            return
        now = time.monotonic()
        if number == signal.SIGINT:
            echo = self._comm.size > 1 and now - self._last_interrupt < ECHO_SECONDS
            self._last_interrupt = now
            if echo:
                return
            if self.requested:
                self._leave()
        if not self.requested:
            self.signal = signal.Signals(number)
            if self._comm.is_main:
                again = " Ctrl-C again leaves at once." if number == signal.SIGINT else ""
                self._announce(f"{self.signal.name}: finishing the iteration, then saving.{again}")

    @staticmethod
    def _handle_in_child(number: int) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _leave(self) -> None:
        """End without saving; the last checkpoint is whole, whatever is being written now."""
        if self._comm.is_main and sys.stderr.isatty():
            _say("\x1b[?25h\x1b[0mLeaving at once; the last checkpoint is intact.")  # cursor and colours back
        if self._comm.size > 1:
            self._comm.abort(128 + signal.SIGINT)
        os._exit(128 + signal.SIGINT)
