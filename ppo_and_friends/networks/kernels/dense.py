"""Fully connected layers on the CPU by oneDNN, where that is faster than PyTorch's usual path.

PyTorch multiplies single-precision matrices by MKL, which on AMD's processors leaves half of their vector
units unused, and its tanh takes twice as long as the product before it. oneDNN does both together in
a third of the time (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ppo_and_friends.networks.kernels.unrolled import Function, chain, hooked, unrolled

PAYS = 2**21
"""Multiplications in a product from which oneDNN is faster; below, its call takes longer."""

ROWS = 128
"""Rows from which a layer with tanh is faster by oneDNN, however narrow it is."""

NARROW = 32
"""Inputs or outputs of a layer below which its weights' gradients are faster the usual way."""

FUSED = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.ELU: "elu", nn.Identity: "none"}
"""Activations that are done together with the layer before them."""

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "elu": partial(functional.elu, inplace=True),
    "none": lambda outputs: outputs,
}

Layer = tuple[Tensor, Tensor, nn.Module]
"""Weight, bias and activation."""

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


def _pays(rows: int, weight: Tensor, kind: str) -> bool:
    """Whether oneDNN is faster for a layer."""
    return rows * weight.numel() >= PAYS or (kind == "tanh" and rows >= ROWS and weight.numel() > 0)


def _activated(inputs: Tensor, weight: Tensor, bias: Tensor, kind: str) -> Tensor:
    pays = _pays(len(inputs), weight, kind)
    if pays and kind == "tanh":
        return _product(inputs, weight, bias, kind)
    # Not oneDNN's own ReLU, which makes 0 of what is not a number, and hides it.
    return IN_PLACE[kind](_product(inputs, weight, bias) if pays else torch.addmm(bias, inputs, weight.t()))


class _Layers(torch.autograd.Function):
    """Layers with their activations as one step, whose derivatives need nothing but their outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kinds: tuple[str, ...], *parameters: Tensor) -> Tensor:
        weights = parameters[::2]
        outputs = [inputs]
        for weight, bias, kind in zip(weights, parameters[1::2], kinds, strict=True):
            outputs.append(_activated(outputs[-1], weight, bias, kind))
        ctx.save_for_backward(*weights, *outputs)
        ctx.kinds = kinds
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count, saved = len(ctx.kinds), ctx.saved_tensors
        weights, outputs = saved[:count], saved[count:]
        by_inputs, _, *wanted = ctx.needs_input_grad
        by_parameters: list[Tensor | None] = [None] * (2 * count)
        for layer in reversed(range(count)):
            gradient = _before(ctx.kinds[layer], gradient, outputs[layer + 1])
            if wanted[2 * layer]:
                by_parameters[2 * layer] = _by_weight(gradient, outputs[layer])
            if wanted[2 * layer + 1]:
                by_parameters[2 * layer + 1] = gradient.sum(0)
            if not (by_inputs or any(wanted[: 2 * layer])):
                return None, None, *by_parameters
            gradient = _by_inputs(gradient, weights[layer])
        return gradient, None, *by_parameters


def _before(kind: str, gradient: Tensor, outputs: Tensor) -> Tensor:
    """The gradient before an activation, of that after it."""
    if kind == "tanh":
        return _aten.tanh_backward(gradient, outputs)  # type: ignore[no-any-return]
    if kind == "elu":
        return _aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, outputs)  # type: ignore[no-any-return]
    if kind == "relu":
        return _aten.threshold_backward(gradient, outputs, 0.0)  # type: ignore[no-any-return]
    return gradient


def _by_inputs(gradient: Tensor, weight: Tensor) -> Tensor:
    """The derivative by a layer's inputs."""
    large = len(gradient) * weight.numel() >= PAYS
    return _product(gradient, weight.t()) if large else gradient.mm(weight)


def _by_weight(gradient: Tensor, inputs: Tensor) -> Tensor:
    """The derivative by a layer's weight."""
    shape = gradient.shape[1], inputs.shape[1]
    if len(gradient) * math.prod(shape) >= PAYS and min(shape) >= NARROW:
        return _product(gradient.t(), inputs.t())
    return gradient.t().mm(inputs)


def dense(inputs: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Layers with their activations, one after another.

    Args:
        inputs: [N, I].
        layers: Weight [O, I], bias [O] and activation (one of ``layers.ACTIVATIONS``, or the
            identity) of each.

    Returns:
        [N, the last layer's O].
    """
    # First, since an exporter's number of rows is a symbol that must not be asked for.
    kinds = None if torch.compiler.is_compiling() else _kinds(inputs, layers)
    if kinds is None:
        for weight, bias, activation in layers:
            inputs = activation(functional.linear(inputs, weight, bias))
        return inputs
    if torch.is_grad_enabled():
        parameters = [tensor for layer in layers for tensor in layer[:2]]
        return _Layers.apply(inputs, kinds, *parameters)  # type: ignore[no-any-return, no-untyped-call]
    for (weight, bias, _), kind in zip(layers, kinds, strict=True):
        inputs = _activated(inputs, weight, bias, kind)
    return inputs


def _kinds(inputs: Tensor, layers: Sequence[Layer]) -> tuple[str, ...] | None:
    """The activations, if oneDNN can do all these layers, and is faster for one of them."""
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or inputs.dim() != 2:
        return None
    if torch.is_autocast_enabled("cpu"):  # which knows PyTorch's own operations alone
        return None
    kinds = [FUSED.get(type(activation)) for _, _, activation in layers]
    known = tuple(kind for kind in kinds if kind is not None)
    if len(known) < len(kinds):
        return None
    rows = len(inputs)
    pays = any(_pays(rows, layer[0], kind) for layer, kind in zip(layers, known, strict=True))
    return known if pays and available() else None


class Dense(nn.Linear):
    """A layer without an activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """With a bias."""
        super().__init__(inputs, outputs)
        self._activation = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        return dense(inputs, [(self.weight, self.bias, self._activation)])


class MLP(nn.Sequential):
    """Fully connected layers, each followed by its activation; its children are those of the usual one."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, the last layer's width]."""
        pairs = self._pairs()
        if pairs is None:
            return super().forward(inputs)  # type: ignore[no-any-return, no-untyped-call]
        return dense(inputs, [(layer.weight, layer.bias, activation) for layer, activation in pairs])

    def unrolled(self) -> Function:
        """``forward`` as a plain function."""
        pairs = self._pairs()
        if pairs is None:
            return chain(list(map(unrolled, self)))
        layers = [(layer.weight.detach(), layer.bias.detach(), activation) for layer, activation in pairs]
        return lambda inputs: dense(inputs, layers)

    def _pairs(self) -> list[tuple[nn.Linear, nn.Module]] | None:
        """Each layer with its activation; None if somebody made something else of them, or watches them."""
        children: list[Any] = list(self)
        layers, activations = children[::2], children[1::2]
        usual = len(layers) == len(activations) and not any(map(hooked, children))
        usual = usual and all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)
        usual = usual and all(getattr(one, "alpha", 1.0) == 1.0 for one in activations)
        return list(zip(layers, activations, strict=True)) if usual else None
