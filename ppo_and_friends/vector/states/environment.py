"""The state of one training environment: its own, its wrappers', its task, whether its episode is over."""

from __future__ import annotations

from typing import Any

from ppo_and_friends.vector.checked_env import CheckedEnv
from ppo_and_friends.vector.states.blob import LENGTH
from ppo_and_friends.vector.states.capture import captured
from ppo_and_friends.vector.states.errors import BadStateError
from ppo_and_friends.vector.states.restore import restored
from ppo_and_friends.vector.tasks import TaskedEnv


def joined(head: Any, value: Any) -> bytes:
    """Two states as one: of plain data, and of what is restored after these are known.

    Raises:
        NoStateError: Something can't be saved; names it.
    """
    first = captured(head, "the task")
    return len(first).to_bytes(LENGTH, "little") + first + captured(value)


def divided(state: bytes) -> tuple[Any, bytes]:
    """What `joined` was given: the plain data, and the other state.

    Raises:
        BadStateError: The bytes aren't a state's.
    """
    end = LENGTH + int.from_bytes(state[:LENGTH], "little")
    if len(state) < end:
        raise BadStateError("it ends too early")
    return restored(state[LENGTH:end], None), state[end:]


def saved(env: CheckedEnv, tasked: TaskedEnv | None, over: bool) -> bytes:
    """An environment's state.

    Args:
        env: The environment.
        tasked: What gives it tasks, if anything does.
        over: Whether its episode is over, so that the next step resets it.

    Raises:
        NoStateError: Something in it can't be saved; names it.
    """
    return joined([over, env.steps, None if tasked is None else tasked.state()], env.env)


def restore(env: CheckedEnv, tasked: TaskedEnv | None, state: bytes) -> bool:
    """Set an environment's state.

    Args:
        env: One that was made alike, and reset.
        tasked: What gives it tasks, if anything does.
        state: As `saved` returned it.

    Returns:
        Whether its episode is over.

    Raises:
        BadStateError: The bytes aren't a state's.
        NoStateError: The state doesn't fit.
    """
    head, own = divided(state)
    if not isinstance(head, list) or len(head) != 3 or type(head[0]) is not bool or type(head[1]) is not int:
        raise BadStateError("what it says of its episode is wrong")
    over: bool = head[0]
    steps, task = head[1:]
    if tasked is not None and task is not None:
        tasked.restore(task)
    restored(own, env.env)
    env.steps = steps
    return over
