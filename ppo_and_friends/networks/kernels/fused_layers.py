"""Fully connected layers on the CPU by oneDNN and NumPy, where these are faster than PyTorch's usual path.

PyTorch multiplies single-precision matrices by MKL, which leaves half of the vector units of some of AMD's
processors unused; oneDNN doesn't. PyTorch's tanh takes longer than the product before it, and ten times as
long as NumPy's (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ppo_and_friends.networks.layers import ACTIVATIONS, NatureCNN
from ppo_and_friends.networks.row_counts import padded

MIN_MULTIPLICATIONS = 2**21
"""Multiplications in a product from which oneDNN is faster; below, its call takes longer."""

MIN_WIDTH = 32
"""Inputs or outputs of a layer below which its weights' gradients are faster the usual way."""

ACTIVATION_NAMES = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.ELU: "elu", nn.Identity: "none"}
"""Activations that are done together with the layer before them."""


def tanh_(values: Tensor) -> Tensor:
    """Tanh in place, on the CPU: NumPy's takes a tenth of the time of PyTorch's."""
    array = values.numpy()
    np.tanh(array, out=array)
    return values


IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh_,
    "relu": torch.relu_,
    "elu": partial(functional.elu, inplace=True),
    "none": lambda outputs: outputs,
}

Layer = tuple[Tensor, Tensor, nn.Module]
"""Weight [O, I], bias [O] and activation."""

NO_ACTIVATION = nn.Identity()

_aten = torch.ops.aten


def fuse_layers(module: nn.Module) -> None:
    """Replace the layers inside a module by fused ones, which hold the same parameters by the same names.

    Replaced are sequences of linear layers that have a bias and are each followed by one of `ACTIVATIONS`
    (what `layers.mlp` makes), and the fully connected layer of the Nature CNN.

    Args:
        module: Changed in place. What has hooks in it stays as it is.
    """
    replacements: dict[nn.Module, nn.Module] = {}  # a shared module stays shared
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        if child not in replacements:
            replacements[child] = _fused(child, module)
        setattr(module, name, replacements[child])


def _fused(child: nn.Module, parent: nn.Module) -> nn.Module:
    """A module's replacement, or itself after the modules inside it were replaced."""
    if type(child) is nn.Sequential and len(child) and not is_hooked(child):
        fused = FusedMLP(*child)
        activations = [type(one) in ACTIVATIONS.values() for one in list(child)[1::2]]
        if all(activations) and fused.layers() is not None:
            return fused.train(child.training)
    if isinstance(parent, NatureCNN) and type(child) is nn.Linear and not is_hooked(child):
        return FusedLinear(child).train(child.training)
    fuse_layers(child)
    return child


class FusedLinear(nn.Linear):
    """A linear layer by oneDNN."""

    def __init__(self, layer: nn.Linear) -> None:
        """Take over a layer's weight and bias."""
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        return fused_layers(inputs, [(self.weight, self.bias, NO_ACTIVATION)])


class FusedMLP(nn.Sequential):
    """Linear layers, each followed by its activation, as one step for autograd."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, the last layer's width]."""
        layers = self.layers()
        if layers is None:
            return super().forward(inputs)  # type: ignore[no-any-return, no-untyped-call]
        return fused_layers(inputs, layers)

    def layers(self) -> list[Layer] | None:
        """Its layers; None if they are of another kind by now, or somebody watches them."""
        children: list[Any] = list(self)
        linear, activations = children[::2], children[1::2]
        usual = len(linear) == len(activations) and not any(map(is_hooked, children))
        usual = usual and all(type(one) is nn.Linear and one.bias is not None for one in linear)
        # By vars(), since a module takes its time to find that it lacks an attribute.
        usual = usual and all(vars(one).get("alpha", 1.0) == 1.0 for one in activations)
        if not usual:
            return None
        return [(one.weight, one.bias, after) for one, after in zip(linear, activations, strict=True)]


def fused_layers(inputs: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Layers with their activations, one after another.

    Args:
        inputs: [N, I].
        layers: At least one, each with as many inputs as the one before has outputs.

    Returns:
        [N, the last layer's O].
    """
    # First, since an exporter's number of rows is a symbol that must not be asked for.
    names = None if torch.compiler.is_compiling() else _fusible(inputs, layers)
    if names is None:
        for weight, bias, activation in layers:
            inputs = activation(functional.linear(inputs, weight, bias))
        return inputs
    if torch.is_grad_enabled():
        parameters = [tensor for layer in layers for tensor in layer[:2]]
        return _FusedLayers.apply(inputs, names, *parameters)  # type: ignore[no-any-return, no-untyped-call]
    rows, outputs = len(inputs), padded(inputs)
    for (weight, bias, _), name in zip(layers, names, strict=True):
        outputs = dense_layer(outputs, weight, bias, name)
    return outputs[:rows]


def _fusible(inputs: Tensor, layers: Sequence[Layer]) -> tuple[str, ...] | None:
    """The activations' names, if they are all known, and one of the layers is faster here than by PyTorch."""
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or inputs.dim() != 2:
        return None
    if type(inputs) not in (Tensor, nn.Parameter):  # others know PyTorch's own operations alone
        return None
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or torch.is_autocast_enabled("cpu"):  # which know PyTorch's own operations alone
        return None
    names = [ACTIVATION_NAMES.get(type(activation)) for _, _, activation in layers]
    known = tuple(name for name in names if name is not None)
    if len(known) < len(names):
        return None
    rows = inputs.shape[0]
    faster = "tanh" in known or any(_by_onednn(rows * layer[0].numel(), inputs) for layer in layers)
    return known if faster else None


@cache
def available() -> bool:
    """Whether this PyTorch has oneDNN, and its linear layer as it is called here."""
    if not torch.backends.mkldnn.is_available():
        return False
    ones = torch.ones(2, 2)
    try:
        # Not a public operation: another PyTorch may have it otherwise, or not at all.
        return bool(torch.equal(_onednn_linear(ones, ones, torch.ones(2)), 3.0 * ones))
    except (AttributeError, RuntimeError):
        return False


def _onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Inputs @ weight.T + bias, by oneDNN."""
    # Without its activations: its ReLU makes 0 of what is not a number, and hides it.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


def _by_onednn(multiplications: int, inputs: Tensor) -> bool:
    """Whether oneDNN can do a product of the inputs, and is faster."""
    return multiplications >= MIN_MULTIPLICATIONS and inputs.dtype == torch.float32 and available()


def dense_layer(inputs: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """One layer with its activation, by whatever is faster."""
    if _by_onednn(inputs.shape[0] * weight.numel(), inputs):
        return IN_PLACE[activation](_onednn_linear(inputs, weight, bias))
    return IN_PLACE[activation](torch.addmm(bias, inputs, weight.t()))


class _FusedLayers(torch.autograd.Function):
    """Layers with their activations as one step, whose gradients need nothing but their outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, activations: tuple[str, ...], *parameters: Tensor) -> Tensor:
        weights = parameters[::2]
        outputs = [padded(inputs)]
        for weight, bias, activation in zip(weights, parameters[1::2], activations, strict=True):
            outputs.append(dense_layer(outputs[-1], weight, bias, activation))
        ctx.save_for_backward(*weights, *outputs)
        ctx.activations = activations
        return outputs[-1][: len(inputs)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count, saved = len(ctx.activations), ctx.saved_tensors
        weights, outputs = saved[:count], saved[count:]
        needs_inputs, _, *needed = ctx.needs_input_grad
        gradients: list[Tensor | None] = [None] * (2 * count)
        rows, gradient = len(gradient), padded(gradient, len(outputs[0]))  # 0 for rows that nobody sees
        for layer in reversed(range(count)):
            gradient = activation_backward(ctx.activations[layer], gradient, outputs[layer + 1])
            if needed[2 * layer]:
                gradients[2 * layer] = weight_gradient(gradient, outputs[layer])
            if needed[2 * layer + 1]:
                gradients[2 * layer + 1] = gradient.sum(0)
            if not (needs_inputs or any(needed[: 2 * layer])):
                return None, None, *gradients
            gradient = input_gradient(gradient, weights[layer])
        return gradient[:rows], None, *gradients


def activation_backward(activation: str, gradient: Tensor, outputs: Tensor) -> Tensor:
    """From the gradient with respect to an activation's outputs to that with respect to its inputs."""
    if activation == "tanh":
        return _aten.tanh_backward(gradient, outputs)  # type: ignore[no-any-return]
    if activation == "elu":
        return _aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, outputs)  # type: ignore[no-any-return]
    if activation == "relu":
        return _aten.threshold_backward(gradient, outputs, 0.0)  # type: ignore[no-any-return]
    return gradient


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient with respect to a layer's inputs."""
    if _by_onednn(gradient.shape[0] * weight.numel(), gradient):
        return _onednn_linear(gradient, weight.t())
    return gradient.mm(weight)


def weight_gradient(gradient: Tensor, inputs: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient with respect to a layer's weight; ``out``: where to write it."""
    shape = gradient.shape[1], inputs.shape[1]
    if min(shape) >= MIN_WIDTH and _by_onednn(gradient.shape[0] * math.prod(shape), gradient):
        found = _onednn_linear(gradient.t(), inputs.t())
        return found if out is None else out.copy_(found)
    return torch.mm(gradient.t(), inputs, out=out)


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody watches the module's calls, or has replaced its own ``forward``."""
    forward = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)
