"""GRU layers over whole chunks as one step for autograd, with episodes that begin anywhere in them.

PyTorch's own GRU on the CPU goes through every step in autograd. Here everything that doesn't depend on the
step before is computed for all steps at once, as are the gradients of the weights, and rows are reset by a
mask: half the time (docs/memory.md). PyTorch's LSTM is oneDNN's, which is faster than this would be.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ppo_and_friends.networks.kernels.fused_layers import available, dense_layer, is_hooked, weight_gradient
from ppo_and_friends.networks.memory import WEIGHTS, Division, Memory
from ppo_and_friends.networks.row_counts import padded


def fuse_memory(module: nn.Module) -> None:
    """Replace each GRU `Memory` inside a module, in place, by one with the same parameters and names."""
    for name, child in list(module.named_children()):
        if type(child) is Memory:
            if not child.is_lstm and not is_hooked(child) and not is_hooked(child.cells):
                setattr(module, name, FusedGRU(child))
        else:
            fuse_memory(child)


class FusedGRU(Memory):
    """A GRU whose pass over chunks is one step for autograd a layer, on the CPU."""

    def __init__(self, memory: Memory) -> None:
        """Take over a memory's parameters."""
        nn.Module.__init__(self)
        self.features, self.layers, self.is_lstm = memory.features, memory.layers, memory.is_lstm
        self.state_size, self.cells = memory.state_size, memory.cells
        self.train(memory.training)

    def sequence(
        self, inputs: Tensor, state: Tensor, starts: Tensor, division: Division | None = None
    ) -> Tensor:
        """As `Memory.sequence`."""
        if inputs.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().sequence(inputs, state, starts, division)
        keep = (~starts).unsqueeze(-1).to(inputs.dtype)
        begins = starts.any(dim=1).tolist()
        parts = state.split(self.features, dim=-1)
        for number in range(self.layers):
            weights = [getattr(self.cells, f"{name}_l{number}") for name in WEIGHTS]
            inputs = _GRU.apply(inputs, parts[number], keep, begins, *weights)  # type: ignore[no-untyped-call]
        return inputs


class _GRU(torch.autograd.Function):
    r"""One layer (arXiv:1406.1078), its gates in PyTorch's order r, z, n.

    .. math:: n_t = \tanh(n^x_t + r_t n^h_t), \quad h_t = (1 - z_t) n_t + z_t h_{t-1}
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, keep: Tensor, begins: list[bool],
        w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
    ) -> Tensor:  # fmt: skip
        steps, rows, width = len(inputs), inputs.shape[1], hidden.shape[-1]
        gates = _projected(inputs, w_ih, b_ih)
        outputs, hiddens, recalled = (inputs.new_empty(steps, rows, width) for _ in range(3))
        recurrent = w_hh.t()
        for t in range(steps):
            _carried(hidden, keep, begins, t, hiddens)
            from_hidden = torch.addmm(b_hh, hiddens[t], recurrent)
            recalled[t] = from_hidden[:, 2 * width :]
            now = gates[t]
            now[:, : 2 * width].add_(from_hidden[:, : 2 * width]).sigmoid_()
            r, z, n = now.split(width, dim=-1)
            n.addcmul_(r, recalled[t]).tanh_()
            hidden = torch.lerp(n, hiddens[t], z, out=outputs[t])
        ctx.save_for_backward(inputs, keep, w_ih, w_hh, gates, hiddens, recalled)
        ctx.begins = begins
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        inputs, keep, w_ih, w_hh, gates, hiddens, recalled = ctx.saved_tensors
        steps, rows, width = hiddens.shape
        r, z, n = gates.unflatten(-1, (3, width)).unbind(2)
        # d(what a gate gets from the hidden state) / d(new hidden state).
        into_n = (1.0 - z) * (1.0 - n * n)
        gate_gradients = gates.new_empty(steps, rows, 3, width)
        torch.mul(into_n * recalled, r * (1.0 - r), out=gate_gradients[:, :, 0])
        torch.mul(hiddens - n, z * (1.0 - z), out=gate_gradients[:, :, 1])
        torch.mul(into_n, r, out=gate_gradients[:, :, 2])
        d_recurrent, d_hiddens = torch.empty_like(gate_gradients), torch.empty_like(hiddens)
        d_hidden = torch.zeros_like(hiddens[0])
        for t in reversed(range(steps)):
            now = torch.add(d_hidden, gradient[t], out=d_hiddens[t])
            torch.mul(now.unsqueeze(1), gate_gradients[t], out=d_recurrent[t])
            d_hidden = torch.addmm(now * z[t], d_recurrent[t].flatten(1), w_hh)
            if ctx.begins[t]:
                d_hidden = d_hidden * keep[t]
        flat = d_recurrent.view(steps * rows, 3 * width)
        d_w_hh, d_b_hh = _weight_gradient(flat, hiddens.flatten(0, 1)), flat.sum(0)
        # What the gates get from the inputs is the same, but for n: there r doesn't stand between.
        torch.mul(d_hiddens, into_n, out=d_recurrent[:, :, 2])
        d_inputs, d_w_ih = _projection_gradients(ctx, flat, inputs, w_ih)
        return d_inputs, d_hidden, None, None, d_w_ih, d_w_hh, flat.sum(0), d_b_hh


def _carried(state: Tensor, keep: Tensor, begins: list[bool], t: int, into: Tensor) -> None:
    """Write to ``into[t]`` the state [N, W] that step t starts from: zeros where an episode begins."""
    if begins[t]:
        torch.mul(state, keep[t], out=into[t])
    else:
        into[t] = state


def _projected(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[L, N, I] to [L, N, O], a tensor of its own."""
    flat = inputs.flatten(0, 1)
    if _single(flat):
        found = dense_layer(padded(flat), weight, bias, "none")[: len(flat)]
    else:
        found = torch.addmm(bias, flat, weight.t())
    return found.view(*inputs.shape[:2], -1)


def _projection_gradients(
    ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Gradients of a projection's inputs [L, N, I], if they are needed, and of its weight."""
    d_inputs = gradient.mm(weight).view(inputs.shape) if ctx.needs_input_grad[0] else None
    return d_inputs, _weight_gradient(gradient, inputs.flatten(0, 1))


def _weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    if _single(inputs):
        return weight_gradient(padded(gradient), padded(inputs))
    return gradient.t().mm(inputs)


def _single(tensor: Tensor) -> bool:
    """Whether oneDNN can multiply it."""
    return tensor.dtype == torch.float32 and available()
