"""The errors that report what went wrong in an environment's own code."""

from __future__ import annotations

from ppo_and_friends.common.frames import SHOWN, last_frames, whole_traceback
from ppo_and_friends.common.objects import one_line
from ppo_and_friends.distributed.interrupts import may_be_pressed
from ppo_and_friends.errors import EnvironmentFault, PPOError


def passing() -> tuple[type[BaseException], ...]:
    """What passes through an environment's code without being its fault: Ctrl-C, and errors with a message.

    Anything else is a fault, `sys.exit(0)` and other exceptions that aren't an ``Exception`` included: an
    environment can't end a training. Neither can it by a KeyboardInterrupt of its own.
    """
    return (KeyboardInterrupt, PPOError) if may_be_pressed() else (PPOError,)


def fault(index: int, step: int, key: str, problem: str) -> EnvironmentFault:
    """The error for an unusable value from an environment.

    Args:
        index: Global index of the environment, over all ranks.
        step: Number of steps of this environment since the process started; 0 is the first reset.
        key: The component, such as ``reward`` or ``observation[3]``.
        problem: What is wrong with it.
    """
    return EnvironmentFault(f"{where(index, step)}, {key}: {problem}")


def where(index: int, step: int) -> str:
    """An environment and its step in words; for the arguments, see `fault`."""
    return f"environment {index}, {f'step {step}' if step else 'the first reset'}"


def raised_fault(place: str, error: BaseException, frames: int = SHOWN) -> EnvironmentFault:
    """The error for an exception in an environment's own code: message, last lines, and whole traceback.

    Args:
        place: Where in the run it happened; begins the message.
        error: What the environment raised.
        frames: The most lines of its traceback in the message.
    """
    lines = [f"{place} {in_words(error)}", *(f"  {line}" for line in last_frames(error, frames))]
    made = EnvironmentFault("\n".join(lines))
    made.traceback = whole_traceback(error)
    return made


def in_words(error: BaseException) -> str:
    """An error's type and message in one line."""
    kind, text = type(error).__name__, one_line(error)
    return text if text == kind else f"{kind}: {text}"
