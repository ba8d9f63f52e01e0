"""Attention among the agents of a group, and the blocks of the Multi-Agent Transformer (arXiv:2205.14953).

Shapes: G groups, n agents, D the width. A mask [..., n, n] bool says whom each agent (a row) attends to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppo_and_friends.networks.layers import HIDDEN_GAIN, linear

SMALL_GAIN = 0.01
"""Orthogonal gain of what is added to a residual: blocks begin near the identity, as in the authors' code."""


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (arXiv:1706.03762, section 3.2)."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        """Args: width: D. heads: A divisor of it. generator: Source of the initial weights."""
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.outputs = (
            linear(width, width, SMALL_GAIN, generator) for _ in range(4)
        )

    def forward(self, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
        """What [G, n, D] find in [G, n, D] where the mask lets them look; each must see something."""
        query, key, value = (
            layer(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, inputs in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        found = functional.scaled_dot_product_attention(query, key, value, mask.unsqueeze(1))
        outputs: Tensor = self.outputs(found.transpose(1, 2).flatten(2))
        return outputs


def perceptron(width: int, generator: torch.Generator) -> nn.Sequential:
    """Two layers, of which the second is added to a residual."""
    first = linear(width, width, HIDDEN_GAIN, generator)
    return nn.Sequential(first, nn.GELU(), linear(width, width, SMALL_GAIN, generator))


class EncoderBlock(nn.Module):
    """Agents look at each other (figure 2 of the paper, left)."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        """Args: as `Attention`."""
        super().__init__()
        self.attention = Attention(width, heads, generator)
        self.perceptron = perceptron(width, generator)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """[G, n, D] to [G, n, D]."""
        seen = self.norms[0](inputs + self.attention(inputs, inputs, mask))
        outputs: Tensor = self.norms[1](seen + self.perceptron(seen))
        return outputs


class DecoderBlock(nn.Module):
    """Actions look at those before them, then observations at actions (figure 2 of the paper, right)."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        """Args: as `Attention`."""
        super().__init__()
        self.attention = Attention(width, heads, generator)
        self.cross_attention = Attention(width, heads, generator)
        self.perceptron = perceptron(width, generator)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, inputs: Tensor, encoded: Tensor, mask: Tensor) -> Tensor:
        """Actions' [G, n, D] and encoded observations [G, n, D] to [G, n, D]."""
        taken = self.norms[0](inputs + self.attention(inputs, inputs, mask))
        seen = self.norms[1](encoded + self.cross_attention(encoded, taken, mask))
        outputs: Tensor = self.norms[2](seen + self.perceptron(seen))
        return outputs
