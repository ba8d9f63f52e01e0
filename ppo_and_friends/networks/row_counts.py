"""Few different numbers of rows, for libraries that keep code for every shape they have seen.

oneDNN generates code for each shape of a product, and keeps it: 1.5 MB for a layer, for up to 1,024 shapes.
How many rows of a rollout are experience differs from one iteration to the next, and so does the size of
minibatches. Padded to round numbers, they have at most eight sizes between a number and its double.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def round_count(rows: int) -> int:
    """The next round number, at most an eighth more: a multiple of 1 below 16, of 2 below 32, and so on.

    Args:
        rows: At least 0.
    """
    step = 1 << max(0, rows.bit_length() - 4)
    return rows + -rows % step


def padded(rows: Tensor, count: int | None = None) -> Tensor:
    """[N, I] with rows of zeros below, up to `round_count` or the given count; itself if it has as many."""
    have = rows.shape[0]  # a tensor's len() takes longer
    missing = (round_count(have) if count is None else count) - have
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows
