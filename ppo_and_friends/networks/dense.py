"""Fully connected layers on the CPU by oneDNN, where that is faster than PyTorch's usual path.

PyTorch multiplies single-precision matrices by MKL, which on AMD's processors leaves half of their vector
units unused, and its tanh takes twice as long as the product before it. oneDNN does both together in
a third of the time (docs/performance.md).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ppo_and_friends.networks.unrolled import Function, chain, hooked, unrolled

PAYS = 2**21
"""Multiplications in a product from which oneDNN is faster; below, its call takes longer."""

ROWS = 128
"""Rows from which a layer with tanh is faster by oneDNN, however narrow it is."""

NARROW = 32
"""Inputs or outputs of a layer below which its weights' gradients are faster the usual way."""

FUSED = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.ELU: "elu", nn.Identity: "none"}
"""Activations that are done together with the layer before them."""

_aten = torch.ops.aten


@cache
def available() -> bool:
    """Whether this PyTorch has oneDNN, and its linear layer as it is called here."""
    if not torch.backends.mkldnn.is_available():
        return False
    ones = torch.ones(2, 2)
    try:
        # Not a public operation: another PyTorch may have it otherwise, or not at all.
        return bool(torch.equal(_product(ones, ones, torch.ones(2)), 3.0 * ones))
    except (AttributeError, RuntimeError):
        return False


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(inputs @ weight.T + bias), by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, activation, [], "")
    return result


def _activated(inputs: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    if activation == "elu":
        return functional.elu(_product(inputs, weight, bias), inplace=True)
    if activation == "relu":
        # oneDNN's own would make 0 of what is not a number, and hide it.
        return _product(inputs, weight, bias).relu_()
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
    # First, since an exporter's number of rows is a symbol that must not be asked for.
    if torch.compiler.is_compiling() or not _pays(inputs, weight, activation):
        outputs: Tensor = activation(functional.linear(inputs, weight, bias))
        return outputs
    kind = FUSED[type(activation)]
    if torch.is_grad_enabled():
        return _Dense.apply(inputs, weight, bias, kind)  # type: ignore[no-any-return, no-untyped-call]
    return _activated(inputs, weight, bias, kind)


def _pays(inputs: Tensor, weight: Tensor, activation: nn.Module) -> bool:
    """Whether oneDNN can do it, and is faster."""
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or inputs.dim() != 2:
        return False
    kind, rows = FUSED.get(type(activation)), len(inputs)
    large = rows * weight.numel() >= PAYS or (kind == "tanh" and rows >= ROWS and weight.numel() > 0)
    return large and kind is not None and available()


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
        pairs = self._pairs()
        if pairs is None:
            return super().forward(inputs)  # type: ignore[no-any-return, no-untyped-call]
        for layer, activation in pairs:
            inputs = dense(inputs, layer.weight, layer.bias, activation)
        return inputs

    def unrolled(self) -> Function:
        """``forward`` as a plain function."""

        def step(layer: nn.Linear, activation: nn.Module) -> Function:
            weight, bias = layer.weight.detach(), layer.bias.detach()
            return lambda inputs: dense(inputs, weight, bias, activation)

        pairs = self._pairs()
        return chain(list(map(unrolled, self)) if pairs is None else [step(*pair) for pair in pairs])

    def _pairs(self) -> list[tuple[nn.Linear, nn.Module]] | None:
        """Each layer with its activation; None if somebody made something else of them, or watches them."""
        children: list[Any] = list(self)
        layers, activations = children[::2], children[1::2]
        usual = len(layers) == len(activations) and not any(map(hooked, children))
        usual = usual and all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)
        usual = usual and all(getattr(one, "alpha", 1.0) == 1.0 for one in activations)
        return list(zip(layers, activations, strict=True)) if usual else None
