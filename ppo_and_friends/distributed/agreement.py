"""Actions of rank 0 whose outcome all ranks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import PPOError

T = TypeVar("T")


def on_main(communicator: Communicator, action: Callable[[], T]) -> T:
    """Run ``action`` on rank 0 only and broadcast its result, or its error, to all ranks. Collective.

    Args:
        communicator: The ranks.
        action: Called on rank 0 only; its result must be picklable.

    Returns:
        The result of ``action``, on every rank.

    Raises:
        PPOError: On every rank, if the action raised it on rank 0.
    """
    outcome: T | PPOError | None = None
    if communicator.is_main:
        try:
            outcome = action()
        except PPOError as error:
            outcome = error
    outcome = communicator.broadcast(outcome)
    if isinstance(outcome, PPOError):
        raise outcome
    return outcome
