"""How a run's environments are divided over the ranks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The consecutive range of a run's environments that one rank steps."""

    total: int
    """Number of environments over all ranks."""

    first: int
    """Global index of this rank's first environment."""

    local: int
    """Number of environments of this rank, at least 1."""

    def times(self, rows: int) -> Layout:
        """The same share, counted in rows: agents, of which each environment has so many."""
        return Layout(self.total * rows, self.first * rows, self.local * rows)

    def over(self, rows: int) -> Layout:
        """The same share, counted in groups of so many rows."""
        return Layout(self.total // rows, self.first // rows, self.local // rows)


def divide(num_envs: int, rank: int, size: int) -> Layout:
    """Return the share of ``rank`` when ``num_envs`` environments are divided over ``size`` ranks.

    Every rank gets at least one environment, so the total is at least ``size``. The first ranks get
    one more each if there is a remainder (16 over 3 ranks: 6, 5, 5).

    Args:
        num_envs: Environments to divide.
        rank: In [0, size).
        size: Number of ranks, at least 1.
    """
    total = max(num_envs, size)
    share, remainder = divmod(total, size)
    local = share + (rank < remainder)
    return Layout(total, rank * share + min(rank, remainder), local)
