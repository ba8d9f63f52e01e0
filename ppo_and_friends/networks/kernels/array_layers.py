"""Small fully connected layers in NumPy, with the chain rule written out.

A product of 64 x 64 matrices takes NumPy 5 us and PyTorch 8, and all around it is as much faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_MULTIPLICATIONS = 2**18
"""Of a product. OpenBLAS divides larger ones among threads, which PyTorch's setting doesn't limit."""

MAX_OUTPUTS = 2**13
"""Of a layer, of all rows together; for the same reason."""


@dataclass(frozen=True)
class ArrayLayer:
    """A layer's parameters, where their gradients go, and the activation that follows."""

    weight: Array
    bias: Array
    weight_gradient: Array
    bias_gradient: Array
    activation: str

    def is_small(self, rows: int) -> bool:
        """Whether NumPy should do this."""
        return rows * self.weight.size <= MAX_MULTIPLICATIONS and rows * len(self.bias) <= MAX_OUTPUTS


def forward(layers: Sequence[ArrayLayer], inputs: Array) -> list[Array]:
    """The inputs [N, I], then each layer's outputs."""
    outputs = [inputs]
    for layer in layers:
        results = outputs[-1] @ layer.weight.T
        results += layer.bias
        _ACTIVATE[layer.activation](results)
        outputs.append(results)
    return outputs


def backward(layers: Sequence[ArrayLayer], outputs: Sequence[Array], gradient: Array) -> None:
    """Write the parameters' gradients, given that with respect to the last layer's outputs."""
    ones = np.ones(len(gradient), gradient.dtype)  # products with it are faster than sums
    for place in reversed(range(len(layers))):
        layer = layers[place]
        _DIFFERENTIATE[layer.activation](gradient, outputs[place + 1])
        np.dot(gradient.T, outputs[place], out=layer.weight_gradient)
        np.dot(ones, gradient, out=layer.bias_gradient)
        if place:
            gradient = gradient @ layer.weight


def _relu(values: Array) -> None:
    np.maximum(values, 0.0, out=values)


def _elu(values: Array) -> None:
    negative = np.minimum(values, 0.0)
    np.maximum(values, np.expm1(negative, out=negative), out=values)


def _tanh_backward(gradient: Array, outputs: Array) -> None:
    slope = outputs * outputs
    np.subtract(1.0, slope, out=slope)
    gradient *= slope


def _relu_backward(gradient: Array, outputs: Array) -> None:
    gradient *= outputs > 0.0


def _elu_backward(gradient: Array, outputs: Array) -> None:
    gradient *= np.minimum(outputs, 0.0) + 1.0


_ACTIVATE: dict[str, Callable[[Array], Any]] = {
    "tanh": lambda values: np.tanh(values, out=values),
    "relu": _relu,
    "elu": _elu,
    "none": lambda values: None,
}
"""In place."""

_DIFFERENTIATE: dict[str, Callable[[Array, Array], None]] = {
    "tanh": _tanh_backward,
    "relu": _relu_backward,
    "elu": _elu_backward,
    "none": lambda gradient, outputs: None,
}
"""In place: from the gradient with respect to an activation's outputs to that with respect to its inputs."""
