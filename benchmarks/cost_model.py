"""What an iteration costs against the number of ranks: fits and readings, as pure functions.

    seconds(W) = fixed + divided / W  +  sums (alpha log2 W + beta bytes)    W ranks, 1 < W

``fixed`` is what each rank does whatever its share (a call for every minibatch and every step), ``divided``
what the ranks share; a sum is an Allreduce by a tree of log2 W stages (R. Thakur et al., Optimization of
Collective Communication Operations in MPICH, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Network:
    """What a sum costs."""

    alpha: float
    """Seconds a stage."""

    beta: float
    """Seconds a byte."""

    def seconds(self, ranks: int, size: float) -> float:
        """Of a sum of ``size`` bytes over ``ranks``; 0 for one rank."""
        return self.alpha * math.log2(ranks) + self.beta * size if ranks > 1 else 0.0


@dataclass(frozen=True)
class Compute:
    """What a rank computes in an iteration."""

    fixed: float
    """Seconds, however many ranks there are."""

    divided: float
    """Seconds that the ranks share."""

    def seconds(self, ranks: int) -> float:
        """Of each of ``ranks``."""
        return self.fixed + self.divided / ranks


@dataclass(frozen=True)
class Cost:
    """An iteration of a launcher."""

    compute: Compute
    network: Network

    sums: float
    """Allreduces an iteration."""

    size: float
    """Bytes of each."""

    def communication(self, ranks: int) -> float:
        """Seconds in sums."""
        return self.sums * self.network.seconds(ranks, self.size)

    def seconds(self, ranks: int) -> float:
        """Seconds of the whole iteration; its timesteps are the same however many ranks there are."""
        return self.compute.seconds(ranks) + self.communication(ranks)

    def share(self, ranks: int) -> float:
        """Of the time, what goes into sums."""
        return self.communication(ranks) / self.seconds(ranks)

    def grown(self, ranks: int, base: int) -> float:
        """Share of sums where each rank keeps the work of one of ``base``: all grows with the ranks."""
        sums = self.communication(ranks)
        return sums / (sums + self.compute.seconds(base))

    def dominated_from(self, most: int = 2**20) -> int | None:
        """The least power of two of ranks at which sums take more time than computing; None: never."""
        ranks = 2
        while ranks <= most:
            if self.communication(ranks) > self.compute.seconds(ranks):
                return ranks
            ranks *= 2
        return None


def fit_compute(measured: Sequence[tuple[int, float]]) -> Compute:
    """Least squares of relative errors, neither part negative.

    Args:
        measured: Ranks and seconds that one of them computed; two numbers of ranks at least.
    """
    rows = np.array([[1.0, 1.0 / ranks] for ranks, _ in measured])
    return Compute(*_fit(rows, np.array([value for _, value in measured])))


def fit_network(measured: Sequence[tuple[int, int, float]]) -> Network:
    """Least squares of relative errors, neither part negative.

    Args:
        measured: Ranks, above 1, bytes and seconds; two sizes at least.
    """
    rows = np.array([[math.log2(ranks), float(size)] for ranks, size, _ in measured])
    return Network(*_fit(rows, np.array([value for *_, value in measured])))


def _fit(rows: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """x, y >= 0 for which [n, 2] ``rows`` @ (x, y) is nearest to ``values``, relative to them."""
    rows, ones = rows / values[:, None], np.ones(len(values))
    scale = rows.max(axis=0)  # bytes would dwarf stages
    rows = rows / scale
    # With two unknowns the best is inside, or on one of the two edges.
    alone = np.diag(np.maximum(0.0, rows.T @ ones / (rows**2).sum(axis=0)))
    inside = np.linalg.lstsq(rows, ones, rcond=None)[0]
    choices = [*alone, *([inside] if (inside >= 0).all() else [])]
    best = min(choices, key=lambda choice: float(((rows @ choice - ones) ** 2).sum()))
    return float(best[0] / scale[0]), float(best[1] / scale[1])
