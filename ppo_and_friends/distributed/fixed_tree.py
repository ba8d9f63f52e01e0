"""Sums in an order that doesn't depend on who computes which part of them.

Floating-point addition isn't associative, so a sum is only reproducible bit for bit if its order is fixed.
Here it is a binary tree over the numbers 0 to n - 1: a range is split in the middle, the lower half getting
one more if the length is odd, and the sums of both halves are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ppo_and_friends.distributed.communicator import Array

Range = tuple[int, int]
"""The numbers from the first one up to, but not including, the second one."""

T = TypeVar("T")


def _halves(node: Range) -> tuple[Range, Range]:
    low, high = node
    middle = (low + high + 1) // 2
    return (low, middle), (middle, high)


def subtrees(part: Range, total: int) -> Iterator[Range]:
    """Yield the largest nodes of the tree over ``total`` numbers that lie inside a part, in ascending order.

    Args:
        part: Consecutive numbers in [0, total).
        total: n, at least 1.
    """

    def visit(node: Range) -> Iterator[Range]:
        if node[1] <= part[0] or part[1] <= node[0]:
            return
        if part[0] <= node[0] and node[1] <= part[1]:
            yield node
            return
        for half in _halves(node):
            yield from visit(half)

    return visit((0, total))


def tree_sum_(node: Range, term: Callable[[Range], Array | None]) -> Array:
    """Return the sum of a node of the tree, in the array of its lowest term. Other terms are used up, too.

    Args:
        node: The node; the whole sum's is ``(0, n)``.
        term: Returns the sum of a node if it is known (of every single number, it has to be); None: it
            isn't, and is computed from its halves.
    """
    known = term(node)
    if known is not None:
        return known
    low, high = _halves(node)
    total = tree_sum_(low, term)
    total += tree_sum_(high, term)
    return total
