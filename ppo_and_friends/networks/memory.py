"""Memory: an LSTM or a GRU whose state is one vector per row, reset where an episode begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ppo_and_friends.networks.layers import orthogonal_
from ppo_and_friends.networks.model import begun
from ppo_and_friends.networks.row_counts import round_count

Kind = Literal["lstm", "gru"]

MOST_PADDING = 4.0
"""Episodes that begin inside the chunks, for each chunk, up to which they are padded side by side.

With as many, 16 to 64 chunks of 8 to 64 steps take between a third of the time and as long, padded.
"""


class Division:
    """Where episodes begin inside L x N chunks."""

    def __init__(self, starts: Tensor) -> None:
        """Look at starts [L, N] bool; what the first step says doesn't divide a chunk."""
        self._starts = starts
        self.inside = int(starts[1:].sum())
        self._parts: Parts | None = None

    def parts(self, dtype: torch.dtype) -> Parts:
        """How to lay the parts of episodes side by side, for inputs of a type."""
        if self._parts is None:
            begins = self._starts.cpu().numpy().T.copy()
            begins[:, 0] = True
            rows, steps = begins.shape
            part = begins.cumsum() - 1  # row by row: the part that a step belongs to
            first = np.flatnonzero(begins)
            # oneDNN keeps code for each shape, in single precision: see `row_counts`.
            count = round_count(len(first)) if dtype == torch.float32 else len(first)
            place = (np.arange(part.size) - first[part]) * count + part
            longest = int(place.max()) // count + 1
            laid = np.ascontiguousarray(place.reshape(rows, steps).T).ravel()
            device = self._starts.device
            self._parts = Parts(
                count,
                longest,
                torch.from_numpy(laid).to(device),
                torch.from_numpy(part[::steps]).to(device),
            )
        return self._parts


@dataclass(frozen=True)
class Parts:
    """Parts of episodes side by side, all padded to the length of the longest."""

    count: int
    """Side by side, of which the last may be empty."""

    longest: int
    """Steps of the longest one."""

    place: Tensor
    """[L * N], where each step of the chunks goes: step t of part p to t * count + p."""

    first: Tensor
    """[N], the part that each chunk begins with."""


class Memory(nn.Module):
    """One or more recurrent layers (doi:10.1162/neco.1997.9.8.1735, arXiv:1406.1078).

    Attributes:
        features: W, size of the outputs.
        state_size: S, numbers of the state: W for each layer, twice that with an LSTM.
    """

    def __init__(
        self, kind: Kind, inputs: int, width: int, layers: int, span: int, generator: torch.Generator
    ) -> None:
        """Build and initialise: orthogonal weights, biases of 0 but for the gates that keep the state.

        These begin so that unit i keeps its state for 1 to ``span`` steps, evenly spread over the units
        (arXiv:1804.11188, section 3.2): a unit that forgets at once can't learn long dependencies.

        Args:
            kind: ``lstm`` or ``gru``.
            inputs: Size of the inputs.
            width: W.
            layers: One behind the other, each of width W.
            span: Steps, >= 1.
            generator: Source of the initial weights.
        """
        super().__init__()
        self.features, self.layers, self.is_lstm = width, layers, kind == "lstm"
        self.state_size = layers * width * (2 if self.is_lstm else 1)
        self.cells = (nn.LSTM if self.is_lstm else nn.GRU)(inputs, width, layers)
        with torch.no_grad():
            for name, parameter in self.cells.named_parameters():
                if name.startswith("weight"):
                    orthogonal_(parameter, 1.0, generator)
                else:
                    parameter.zero_()
                    if name.startswith("bias_ih"):
                        # In double precision, as in `orthogonal_`.
                        kept = torch.linspace(1.0, float(span), width, dtype=torch.float64).log()
                        # An LSTM's forget gate, a GRU's update gate: both the second of PyTorch's.
                        parameter[width : 2 * width] = kept
                        if self.is_lstm:
                            parameter[:width] = -kept  # what is kept longer takes in less at a time

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: inputs [B, I] and state [B, S] to outputs [B, W] and the next state [B, S]."""
        parts = state.split(self.features, dim=-1)
        following: list[Tensor] = []
        for layer in range(self.layers):
            weights = [getattr(self.cells, f"{name}_l{layer}") for name in WEIGHTS]
            if self.is_lstm:
                hidden, cell = torch.lstm_cell(inputs, parts[2 * layer : 2 * layer + 2], *weights)
                following += [hidden, cell]
            else:
                hidden = torch.gru_cell(inputs, parts[layer], *weights)
                following.append(hidden)
            inputs = hidden
        return inputs, torch.cat(following, dim=-1)

    def sequence(
        self, inputs: Tensor, state: Tensor, starts: Tensor, division: Division | None = None
    ) -> Tensor:
        """L steps of N rows: inputs [L, N, I], the first state [N, S], starts [L, N] bool to [L, N, W].

        Who runs several memories over the same chunks makes their division once.
        """
        division = division or Division(starts)
        if not division.inside:
            outputs: Tensor = self.cells(inputs, self._unpacked(begun(state, starts[0])))[0]
            return outputs
        # Padding costs arithmetic, a call for each stretch costs time of its own.
        if division.inside <= MOST_PADDING * starts.shape[1]:
            return self._padded(inputs, state, starts, division.parts(inputs.dtype))
        return self._by_stretches(inputs, state, starts)

    def _padded(self, inputs: Tensor, state: Tensor, starts: Tensor, parts: Parts) -> Tensor:
        """All parts of episodes side by side in one call, padded to the same length."""
        padded = parts.longest * parts.count
        laid = inputs.new_zeros(padded, inputs.shape[-1]).index_copy(0, parts.place, inputs.flatten(0, 1))
        own = state.new_zeros(parts.count, self.state_size)
        own = own.index_copy(0, parts.first, begun(state, starts[0]))
        outputs, _ = self.cells(laid.view(parts.longest, parts.count, -1), self._unpacked(own))
        found: Tensor = outputs.flatten(0, 1).index_select(0, parts.place).view(*starts.shape, -1)
        return found

    def _by_stretches(self, inputs: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        """A call for each stretch between two steps at which some episode begins."""
        begins = [0, *(1 + starts[1:].any(dim=1).nonzero().flatten()).tolist(), len(starts)]
        outputs: list[Tensor] = []
        for first, last in pairwise(begins):
            result, own = self.cells(inputs[first:last], self._unpacked(begun(state, starts[first])))
            state = self._packed(own)
            outputs.append(result)
        return torch.cat(outputs)

    def _unpacked(self, state: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[N, S] as PyTorch has it: [layers, N, W], two of these for an LSTM."""
        parts = state.unflatten(-1, (self.layers, -1, self.features)).permute(2, 1, 0, 3)
        if self.is_lstm:
            return parts[0].contiguous(), parts[1].contiguous()
        only: Tensor = parts[0].contiguous()
        return only

    def _packed(self, own: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Undoes `_unpacked`."""
        parts = torch.stack(own if isinstance(own, tuple) else (own,))
        return parts.permute(2, 1, 0, 3).flatten(1)


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
