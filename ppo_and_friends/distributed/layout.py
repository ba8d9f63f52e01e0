"""Which environments of a run are whose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Which environments of the run are this rank's."""

    total: int
    """Environments over all ranks."""

    first: int
    """Global index of this rank's first environment."""

    local: int
    """Environments of this rank."""


def divide(num_envs: int, rank: int, size: int) -> Layout:
    """Divide ``num_envs`` environments over ``size`` ranks, each getting at least one.

    The remainder goes one each to the first ranks (16 over 3 ranks: 6, 5, 5), since giving all of
    it to rank 0 would make every other rank wait there.
    """
    total = max(num_envs, size)
    share, remainder = divmod(total, size)
    local = share + (rank < remainder)
    return Layout(total, rank * share + min(rank, remainder), local)
