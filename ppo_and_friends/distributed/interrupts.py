"""Handling of Ctrl-C and a batch system's signals: finish the iteration, save a checkpoint, exit."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.grace import Deadline, Grace
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""Ctrl-C; the signal of `kill` and of Slurm's time limit; the early warnings of `sbatch --signal=USR1@60`
and of submitit; a terminal that is closed."""

ECHO_SECONDS = 0.3
"""A SIGINT that follows another one within this time is the same Ctrl-C, because both the terminal and
the MPI launcher (mpirun, srun) send one. Applies to several ranks only."""


def _say(text: str) -> None:
    """Write to stderr, bypassing Python's buffers: the signal may have interrupted a write to them."""
    try:
        os.write(2, f"\n{text}\n".encode())
    except OSError:
        return


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the context is left; processes started inside it never get them.

    A batch system sends its signals to every process of a job. What multiprocessing starts beside the
    workers would end by them, and take away the environments of an iteration that is to be finished.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def may_be_pressed() -> bool:
    """Whether a KeyboardInterrupt that was caught may be a user's Ctrl-C, and not somebody's own.

    Python's handler raises one, as may another program's; `Interrupts` only at the second Ctrl-C.
    """
    handler = signal.getsignal(signal.SIGINT)
    owner = getattr(handler, "__self__", None)
    return owner.raised if isinstance(owner, Interrupts) else handler is not _nothing


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def leave_to_main() -> None:
    """In an environment's own process: do nothing at signals, since the main process reacts to them.

    They are handled rather than ignored, because a program that an environment starts would inherit the
    latter. Undoes `held_back`.
    """
    for number in SIGNALS:
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class Interrupts:
    """Turns the first signal into a request to stop, and a second Ctrl-C into an immediate exit.

    Enter the context before starting environments in subprocesses. These inherit the handlers: they
    ignore Ctrl-C, which a terminal sends to all processes and this process acts on, and end on
    SIGTERM. Outside the main thread, where Python can't install signal handlers, it does nothing.
    SIGHUP stays ignored where it was before (nohup): such a run is to outlive its terminal.

    Args:
        comm: The program's communicator, over which ``agreed`` asks all ranks; None: a single rank.
        announce: Shows a message to the user; called inside a signal handler, on rank 0 only.
        ends_process: Whether a second Ctrl-C ends the process. If False, it raises KeyboardInterrupt,
            for use in notebooks; with several ranks it always ends the job.
        grace: How long the job lives on after a signal; equal on all ranks.

    Attributes:
        deadline: When it is killed; None: the grace time has no limit.
        signal: The first signal received; None if there was none yet.
        raised: Whether a KeyboardInterrupt was raised at a second Ctrl-C.
    """

    def __init__(
        self,
        comm: Communicator | None = None,
        announce: Callable[[str], None] = _say,
        *,
        ends_process: bool = True,
        grace: Grace | None = None,
    ) -> None:
        self._comm = comm or SoloCommunicator()
        self._announce = announce
        self._ends_process = ends_process
        self.deadline = Deadline(self._comm, grace) if grace is not None and grace.limited else None
        self._previous: dict[signal.Signals, Any] = {}
        self._process = 0
        self._last_interrupt = 0.0
        self._from_others = False
        self.signal: signal.Signals | None = None
        self.raised = False

    @property
    def requested(self) -> bool:
        """Whether this rank has received a signal to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The conventional exit status, 128 + signal: 130 for Ctrl-C, 143 for SIGTERM; 0 for no signal."""
        return 0 if self.signal is None else 128 + int(self.signal)

    def announce_by(self, shown: Callable[[str], bool]) -> None:
        """Announce messages with another function from now on.

        Args:
            shown: Shows a message and returns whether it could; if not, the previous function is
                called. It must be safe to call in a signal handler.
        """
        fallback = self._announce

        def announce(text: str) -> None:
            if not shown(text):
                fallback(text)

        self._announce = announce

    def agreed(self) -> bool:
        """Return whether any rank was asked to stop. Collective; afterwards all ranks' exit codes agree."""
        return self.agreed_by(self._comm)

    def agreed_by(self, communicator: Communicator) -> bool:
        """`agreed` over another communicator: a shard's."""
        code = np.array([self.exit_code], dtype=np.int64)
        communicator.max_(code)
        if code[0]:
            heard, self.signal = self.signal, signal.Signals(int(code[0]) - 128)
            if heard is None:
                self._from_others = True  # also when another shard of this process, or policy, asks again
                if communicator.is_main:
                    self._announce(f"{self.signal.name} on another rank: saving.")
        return bool(code[0])

    def seen_by(self, communicator: Communicator) -> Interrupts:
        """The same signals, on which a shard agrees with all others by its own communicator."""
        return _SharedInterrupts(self, communicator)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that Python didn't install and can't restore.
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
            # The Ctrl-C of which another rank has told: signals don't reach all ranks in one moment.
            told = self._from_others and self.signal == signal.SIGINT
            self._from_others = False
            if echo or told:
                return
            if self.requested:
                self._leave()
        if not self.requested:
            self.signal = signal.Signals(number)
            left = None if self.deadline is None else self.deadline.signalled(number)
            if self._comm.is_main:
                again = " Press Ctrl-C again to exit at once." if number == signal.SIGINT else ""
                within = "" if left is None else f" within {left:,.0f} s"
                self._announce(f"{self.signal.name}: finishing the iteration{within}, then saving.{again}")
        elif self.deadline is not None:
            self.deadline.signalled(number)

    @staticmethod
    def _handle_in_child(number: int) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _leave(self) -> None:
        """Exit without saving. The last checkpoint stays intact, even if one is being written now.

        Raises:
            KeyboardInterrupt: The process continues.
        """
        if self._comm.size == 1 and not self._ends_process:
            self.raised = True
            raise KeyboardInterrupt
        if self._comm.is_main and sys.stderr.isatty():
            _say("\x1b[?25h\x1b[0mExiting at once; the last checkpoint is intact.")  # restores the terminal
        if self._comm.size > 1:
            self._comm.abort(128 + signal.SIGINT)
        os._exit(128 + signal.SIGINT)


class _SharedInterrupts(Interrupts):
    """A process's interrupts, seen by one of its shards. Never entered."""

    def __init__(self, inner: Interrupts, communicator: Communicator) -> None:
        super().__init__(communicator)
        self._inner = inner
        self.deadline = None if inner.deadline is None else inner.deadline.seen_by(communicator)

    @property
    def requested(self) -> bool:
        """Whether this process has received a signal to stop."""
        return self._inner.requested

    @property
    def exit_code(self) -> int:
        """The process's."""
        return self._inner.exit_code

    def agreed(self) -> bool:
        """See `Interrupts.agreed`; over all shards."""
        return self._inner.agreed_by(self._comm)
