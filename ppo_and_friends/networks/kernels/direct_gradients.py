"""A minibatch's gradients without autograd, for actors and critics of fully connected layers on the CPU.

With minibatches of 64 autograd's bookkeeping takes longer than the layers themselves (docs/performance.md).
Here the chain rule is written out, and the gradients go where autograd would have added them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.networks.actor_critic import ActorCritic, PolicyHead
from ppo_and_friends.networks.kernels.array_distributions import Terms, policy_terms
from ppo_and_friends.networks.kernels.array_loss import array_loss
from ppo_and_friends.networks.kernels.fused_layers import (
    ACTIVATION_NAMES,
    NO_ACTIVATION,
    FusedMLP,
    activation_backward,
    dense_layer,
    input_gradient,
    is_hooked,
    weight_gradient,
)
from ppo_and_friends.networks.kernels.fused_loss import LossInputs
from ppo_and_friends.networks.layers import VectorEncoder
from ppo_and_friends.networks.model import Model, Tensors
from ppo_and_friends.networks.row_counts import padded

Array = NDArray[Any]


class ObservedInputs(LossInputs, Protocol):
    """What is read of a minibatch of N samples."""

    @property
    def observations(self) -> Tensors:
        """By name, [N, *obs] each."""


@dataclass(frozen=True)
class _Layer:
    """A layer's parameters, where their gradients go, and the activation that follows."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    activation: str


def _forward(layers: Sequence[_Layer], inputs: Tensor) -> list[Tensor]:
    """The inputs, then each layer's outputs."""
    outputs = [padded(inputs)]
    for layer in layers:
        outputs.append(dense_layer(outputs[-1], layer.weight, layer.bias, layer.activation))
    return outputs


def _backward(layers: Sequence[_Layer], outputs: Sequence[Tensor], gradient: Tensor) -> None:
    """Write the parameters' gradients, given that with respect to the last layer's outputs."""
    gradient = padded(gradient, outputs[0].shape[0])  # 0 for rows that nobody sees
    for place in reversed(range(len(layers))):
        layer = layers[place]
        gradient = activation_backward(layer.activation, gradient, outputs[place + 1])
        weight_gradient(gradient, outputs[place], out=layer.weight_gradient)
        torch.sum(gradient, 0, out=layer.bias_gradient)
        if place:
            gradient = input_gradient(gradient, layer.weight)


class DirectGradients:
    """Loss and gradients of a network, which must not get other modules or tensors while this is used."""

    def __init__(
        self,
        terms: Terms,
        actor: Sequence[_Layer],
        critic: Sequence[_Layer],
        log_std: nn.Parameter | None,
    ) -> None:
        """Take what `direct_gradients` found."""
        self._terms, self._actor, self._critic = terms, actor, critic
        self._log_std: Array | None = None
        if log_std is not None and log_std.grad is not None:
            self._log_std, self._log_std_gradient = log_std.detach().numpy(), log_std.grad.numpy()

    def __call__(self, minibatch: ObservedInputs, **settings: Any) -> Tensor:
        """Write the gradients of `ppo.losses.ppo_loss` into the parameters' ``grad``, over what is there.

        Args:
            minibatch: Its ``policy_parameters`` and ``value_outputs`` aren't read.
            settings: The loss's keyword arguments.

        Returns:
            The loss's statistics, [5].
        """
        rows = minibatch.advantages.shape[0]
        seen = minibatch.observations["policy"].flatten(1)
        seen_by_critic = ActorCritic.critic_sees(minibatch.observations).flatten(1)
        acted, judged = _forward(self._actor, seen), _forward(self._critic, seen_by_critic)
        outputs, values = acted[-1].numpy()[:rows], judged[-1].numpy()[:rows]
        size = outputs.shape[1]
        parameters = outputs
        if self._log_std is not None:
            parameters = np.empty((rows, size + len(self._log_std)), outputs.dtype)
            parameters[:, :size], parameters[:, size:] = outputs, self._log_std
        statistics, by_parameters, by_values = array_loss(
            self._terms, minibatch, parameters, values, **settings
        )
        if self._log_std is not None:
            np.add.reduce(by_parameters[:, size:], axis=0, out=self._log_std_gradient)
        _backward(self._actor, acted, torch.from_numpy(by_parameters[:, :size]))
        _backward(self._critic, judged, torch.from_numpy(by_values))
        return torch.from_numpy(statistics)


def direct_gradients(network: Model) -> DirectGradients | None:
    """What writes a network's gradients; None: there is something in it that isn't known here.

    Args:
        network: Its trainable parameters have a ``grad``.
    """
    terms = policy_terms(network.distribution)
    if terms is None or not _is_known(network):
        return None
    assert isinstance(network, ActorCritic)
    head = network.policy_head
    actor, critic = _layers(network.actor, head.outputs), _layers(network.critic, network.value_head)
    if actor is None or critic is None:
        return None
    return DirectGradients(terms, actor, critic, head.log_std)


def _is_known(network: Model) -> bool:
    """Whether it is the built-in network on the CPU, without parts that somebody replaced or watches."""
    if type(network) is not ActorCritic or network.training is False:
        return False
    encoders = network.actor_encoder, network.critic_encoder
    parts: tuple[nn.Module, ...] = (network, *encoders, network.policy_head)
    return (
        all(type(each) is VectorEncoder and not each.from_bytes for each in encoders)
        and type(network.policy_head) is PolicyHead
        and not any(map(is_hooked, parts))
        and all(_is_written(each) for each in network.parameters())
    )


def _is_written(parameter: nn.Parameter) -> bool:
    """Whether a gradient can be written to it."""
    usual = parameter.requires_grad and parameter.grad is not None and parameter.device.type == "cpu"
    return usual and parameter.dtype in (torch.float32, torch.float64)


def _layers(hidden: nn.Module, head: nn.Module) -> list[_Layer] | None:
    """Hidden layers and a head; None: they are not all known."""
    found = hidden.layers() if type(hidden) is FusedMLP and not is_hooked(hidden) else None
    if type(hidden) is nn.Sequential and not len(hidden):
        found = []
    if found is None or type(head) is not nn.Linear or is_hooked(head):
        return None
    layers = []
    for weight, bias, activation in [*found, (head.weight, head.bias, NO_ACTIVATION)]:
        name = ACTIVATION_NAMES.get(type(activation))
        if name is None:
            return None
        assert weight.grad is not None and bias.grad is not None
        layers.append(_Layer(weight.detach(), bias.detach(), weight.grad, bias.grad, name))
    return layers
