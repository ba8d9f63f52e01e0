"""Outcomes that all ranks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import PPOError

T = TypeVar("T")


def on_main(communicator: Communicator, action: Callable[[], T]) -> T:
    """Do something on rank 0 alone; its result, or its error, comes to all ranks. A collective.

    Raises:
        PPOError: What the action raised on rank 0.
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
