"""Fully connected layers by PyTorch's and oneDNN's products, with the chain rule written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo_and_friends.networks.kernels.array_layers import ArrayLayer
from ppo_and_friends.networks.kernels.fused_layers import (
    activation_backward,
    dense_layer,
    input_gradient,
    weight_gradient,
)
from ppo_and_friends.networks.row_counts import padded


@dataclass(frozen=True)
class TensorLayer:
    """A layer's parameters, where their gradients go, and the activation that follows."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    activation: str

    def as_arrays(self) -> ArrayLayer:
        """The same memory."""
        return ArrayLayer(
            self.weight.numpy(),
            self.bias.numpy(),
            self.weight_gradient.numpy(),
            self.bias_gradient.numpy(),
            self.activation,
        )


def forward(layers: Sequence[TensorLayer], inputs: Tensor) -> list[Tensor]:
    """The inputs [N, I], then each layer's outputs; with rows below them that nobody needs."""
    outputs = [padded(inputs)]
    for layer in layers:
        outputs.append(dense_layer(outputs[-1], layer.weight, layer.bias, layer.activation))
    return outputs


def backward(layers: Sequence[TensorLayer], outputs: Sequence[Tensor], gradient: Tensor) -> None:
    """Write the parameters' gradients, given that [N, O] with respect to the last layer's outputs."""
    gradient = padded(gradient, outputs[0].shape[0])  # 0 for what nobody needs
    for place in reversed(range(len(layers))):
        layer = layers[place]
        gradient = activation_backward(layer.activation, gradient, outputs[place + 1])
        weight_gradient(gradient, outputs[place], out=layer.weight_gradient)
        torch.sum(gradient, 0, out=layer.bias_gradient)
        if place:
            gradient = input_gradient(gradient, layer.weight)
