"""An encoder whose parts read different columns of the observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SplitEncoder(nn.Module):
    """Two groups of columns of a vector through networks of their own, side by side again after."""

    def __init__(self, base: nn.Module, parts: list[tuple[list[int], nn.Module]], features: int) -> None:
        """Join parts.

        Args:
            base: From observations [N, *obs] to the vector [N, n].
            parts: Columns of the vector, and what reads them.
            features: Size of the result.
        """
        super().__init__()
        self.base = base
        self.features = features
        self.readers = nn.ModuleList([reader for _, reader in parts])
        # A slice where the columns are neighbours: a view, where an index would copy.
        self._spans = [_span(columns) for columns, _ in parts]
        for index, (columns, _) in enumerate(parts):
            self.register_buffer(f"columns_{index}", torch.tensor(columns), persistent=False)

    def selections(self) -> list[Tensor | slice]:
        """What each reader reads of the vector: an index for its last axis."""
        return [span or self.get_buffer(f"columns_{index}") for index, span in enumerate(self._spans)]

    def forward(self, observations: Tensor) -> Tensor:
        """[N, *obs] to [N, features]."""
        flat = self.base(observations)
        parts = zip(self.readers, self.selections(), strict=True)
        return torch.cat([reader(flat[:, selection]) for reader, selection in parts], dim=-1)


def _span(columns: list[int]) -> slice | None:
    """Sorted columns as a slice, if they are neighbours."""
    first, last = columns[0], columns[-1]
    return slice(first, last + 1) if last - first + 1 == len(columns) else None
