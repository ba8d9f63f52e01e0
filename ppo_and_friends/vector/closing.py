"""Closing environments, whose own code may raise anything, or never return."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ppo_and_friends.distributed.interrupts import may_be_pressed

CLOSE_SECONDS = 10.0
"""How long an environment may take to close: by then, all that matters is saved."""


class _TooLong(BaseException):
    """Not an ``Exception``, so that code that catches those doesn't go on."""


def _nothing() -> None:
    pass


def close_env(env: Any, name: str, seconds: float = CLOSE_SECONDS) -> bool:
    """Close an environment. What it raises is of no interest any more, except a user's Ctrl-C.

    Args:
        env: It may have no method ``close``.
        name: What it is, for the message.
        seconds: How long it may take. Outside the main thread there is no limit.

    Returns:
        Whether it returned in time; if not, that was said on stderr.
    """
    try:
        with _limited(seconds):
            getattr(env, "close", _nothing)()
    except _TooLong:
        print(f"{name}: close didn't return within {seconds:g} s; it is left as it is.", file=sys.stderr)
        return False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and may_be_pressed():
            raise
    return True


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` inside the context after some time, and again each second until it is left."""
    usable = threading.current_thread() is threading.main_thread()
    if not usable or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:  # somebody else's
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
