"""What can be wrong with a saved tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def tensor_fault(own: Tensor, saved: Tensor, *, same_precision: bool = True) -> str | None:
    """Why a saved tensor can't take the place of a new one; None if it can.

    Args:
        own: The tensor as it is when a run begins. What it has that isn't finite stands for "none yet", such
            as the highest score before any test; only then may the saved one have such values.
        saved: The tensor from a file.
        same_precision: Whether float32 and float64 are different.
    """
    if saved.shape != own.shape:
        return f"has shape {list(saved.shape)}, not {list(own.shape)}"
    alike = saved.is_floating_point() and own.is_floating_point() and not same_precision
    if saved.dtype != own.dtype and not alike:
        return f"holds {_name(saved)} numbers, not {_name(own)}"
    if is_finite(own) and not is_finite(saved):
        return "has NaN or infinite values"
    return None


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
