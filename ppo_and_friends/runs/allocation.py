"""A saved policy's settings may ask for any size; what is built from them is no larger than what is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ppo_and_friends.errors import IncompatibleState
from ppo_and_friends.runs.checkpoint import Checkpoint

FACTOR = 8
"""Numbers that may be allocated for each that is saved: fused layers and buffers are copies."""

ALWAYS = 2**24
"""Numbers that may be allocated anyway, for what isn't saved."""

TENSOR = 2**12
"""What a tensor costs beside its numbers, so that there can't be endlessly many small ones."""

NEW = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full)
NEW_ALIKE = (torch.Tensor.new_empty, torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full)
FILLED = (torch.full, torch.Tensor.new_full)
"""Whose last argument is no size."""


class _Limit(TorchFunctionMode):
    """Counts the tensors that are made; the innermost one does."""

    counting: _Limit | None = None

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.path = checkpoint.path
        self.saved = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        self.most = FACTOR * (self.saved + TENSOR * len(checkpoint.tensors)) + ALWAYS
        self.made = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if _Limit.counting is self and (func in NEW or func in NEW_ALIKE):
            sizes = args[1:] if func in NEW_ALIKE else args
            self.made += TENSOR + _numbers(named.get("size", sizes[:1] if func in FILLED else sizes))
            if self.made > self.most:
                raise IncompatibleState(
                    f"The state saved in {self.path} is not compatible with its settings: they ask for more "
                    f"than {self.most:,} numbers, and {self.saved:,} are saved."
                )
        return func(*args, **named)


def _numbers(size: Any) -> int:
    """How many numbers a tensor of this size has, given as it is to ``torch.empty``."""
    if len(size) == 1 and isinstance(size[0], Sequence):
        size = size[0]
    return math.prod(int(length) for length in size)


@contextmanager
def no_larger_than(checkpoint: Checkpoint) -> Iterator[None]:
    """Refuse tensors inside the context, before they are allocated, that the checkpoint can't fill.

    Raises:
        IncompatibleState: The settings ask for more than what is saved.
    """
    before = _Limit.counting
    try:
        with _Limit(checkpoint) as limit:
            _Limit.counting = limit
            yield
    finally:
        _Limit.counting = before
