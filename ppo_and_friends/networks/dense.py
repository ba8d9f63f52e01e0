"""Fully connected layers on the CPU by oneDNN, where that is faster than PyTorch's usual path.

PyTorch multiplies single-precision matrices by MKL, which on AMD's processors leaves half of their vector
units unused, and its tanh takes twice as long as the product before it. oneDNN does both together in
a third of the time (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ppo_and_friends.networks.unrolled import Function, chain, hooked

PAYS = 2**21
"""Multiplications in a product from which oneDNN is faster; below, its call takes longer."""

ROWS = 128
"""Rows from which a layer with tanh is faster by oneDNN, however narrow it is."""

NARROW = 32
"""Inputs or outputs of a layer below which its weights' gradients are faster the usual way."""

_aten = torch.ops.aten


def available() -> bool:
    """Whether this PyTorch has oneDNN and its linear layer."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(inputs @ weight.T + bias), by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, activation, [], "")
    return result


def _activated(inputs: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    if activation == "elu":
        return functional.elu(_product(inputs, weight, bias), inplace=True)
    return _product(inputs, weight, bias, activation)


class _Dense(torch.autograd.Function):
    """A layer and its activation as one step, whose derivative needs nothing but its output."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        outputs = _activated(inputs, weight, bias, activation)
        ctx.save_for_backward(inputs, weight, outputs)
        ctx.activation = activation
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        inputs, weight, outputs = ctx.saved_tensors
        if ctx.activation == "tanh":
            gradient = _aten.tanh_backward(gradient, outputs)
        elif ctx.activation == "elu":
            gradient = _aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, outputs)
        elif ctx.activation == "relu":
            gradient = _aten.threshold_backward(gradient, outputs, 0.0)
        large = len(inputs) * weight.numel() >= PAYS
        by_inputs = None
        if ctx.needs_input_grad[0]:
            by_inputs = _product(gradient, weight.t()) if large else gradient.mm(weight)
        if large and min(weight.shape) >= NARROW:
            by_weight = _product(gradient.t(), inputs.t())
        else:
            by_weight = gradient.t().mm(inputs)
        return by_inputs, by_weight, gradient.sum(0), None


FUSED = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.ELU: "elu", nn.Identity: "none"}
"""Activations that are done together with the layer before them."""


def dense(inputs: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module) -> Tensor:
    """A layer with its activation.

    Args:
        inputs: [N, I].
        weight: [O, I].
        bias: [O].
        activation: One of ``layers.ACTIVATIONS``, or the identity.

    Returns:
        [N, O].
    """
    kind = FUSED.get(type(activation))
    rows = inputs.shape[0]
    pays = rows * weight.numel() >= PAYS or (kind == "tanh" and rows >= ROWS)
    usable = inputs.device.type == "cpu" and inputs.dtype == torch.float32 and inputs.dim() == 2
    if not (pays and usable and kind and available()):
        outputs: Tensor = activation(functional.linear(inputs, weight, bias))
        return outputs
    if torch.is_grad_enabled():
        return _Dense.apply(inputs, weight, bias, kind)  # type: ignore[no-any-return, no-untyped-call]
    return _activated(inputs, weight, bias, kind)


class Dense(nn.Linear):
    """A layer without an activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """With a bias."""
        super().__init__(inputs, outputs)
        self._activation = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        return dense(inputs, self.weight, self.bias, self._activation)


class MLP(nn.Sequential):
    """Fully connected layers, each followed by its activation; its children are those of the usual one."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, the last layer's width]."""
        if any(map(hooked, self)):
            return super().forward(inputs)  # type: ignore[no-any-return, no-untyped-call]
        for layer, activation in self._pairs():
            inputs = dense(inputs, layer.weight, layer.bias, activation)
        return inputs

    def unrolled(self) -> Function:
        """``forward`` as a plain function."""

        def step(layer: nn.Linear, activation: nn.Module) -> Function:
            weight, bias = layer.weight.detach(), layer.bias.detach()
            return lambda inputs: dense(inputs, weight, bias, activation)

        return chain([step(*pair) for pair in self._pairs()])

    def _pairs(self) -> list[tuple[nn.Linear, nn.Module]]:
        children: list[Any] = list(self)
        return list(zip(children[::2], children[1::2], strict=True))
