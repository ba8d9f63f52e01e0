"""A minibatch's gradients without autograd, for actors and critics of fully connected layers on the CPU.

With minibatches of 64 autograd's bookkeeping takes longer than the layers themselves (docs/performance.md).
Here the chain rule is written out, and the gradients go where autograd would have added them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.networks.actor_critic import ActorCritic, PolicyHead
from ppo_and_friends.networks.kernels import array_layers, tensor_layers
from ppo_and_friends.networks.kernels.array_distributions import Terms, policy_terms
from ppo_and_friends.networks.kernels.array_loss import array_loss
from ppo_and_friends.networks.kernels.fused_layers import (
    ACTIVATION_NAMES,
    NO_ACTIVATION,
    FusedMLP,
    is_hooked,
)
from ppo_and_friends.networks.kernels.fused_loss import LossInputs
from ppo_and_friends.networks.kernels.tensor_layers import TensorLayer
from ppo_and_friends.networks.layers import VectorEncoder
from ppo_and_friends.networks.model import Model, Tensors

Array = NDArray[Any]


class ObservedInputs(LossInputs, Protocol):
    """What is read of a minibatch of N samples."""

    @property
    def observations(self) -> Tensors:
        """By name, [N, *obs] each."""


class _Network:
    """Layers, one after another, small ones by NumPy."""

    def __init__(self, layers: list[TensorLayer]) -> None:
        self._layers, self._arrays = layers, [layer.as_arrays() for layer in layers]

    def run(self, inputs: Tensor) -> tuple[Array, Callable[[Array], None]]:
        """From inputs [N, I] to outputs [N, O], and what writes gradients, given those of the outputs."""
        rows, arrays, layers = inputs.shape[0], self._arrays, self._layers
        if all(layer.is_small(rows) for layer in arrays):
            seen = array_layers.forward(arrays, inputs.numpy())
            return seen[-1], lambda gradient: array_layers.backward(arrays, seen, gradient)
        outputs = tensor_layers.forward(layers, inputs)
        return outputs[-1].numpy()[:rows], lambda gradient: tensor_layers.backward(
            layers, outputs, torch.from_numpy(gradient)
        )


class DirectGradients:
    """Loss and gradients of a network, which must not get other modules or tensors while this is used."""

    def __init__(
        self,
        terms: Terms,
        actor: _Network,
        critic: _Network,
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
        with np.errstate(all="ignore"):  # PyTorch doesn't warn of what is infinite either
            return self._written(minibatch, **settings)

    def _written(self, minibatch: ObservedInputs, **settings: Any) -> Tensor:
        rows = minibatch.advantages.shape[0]
        seen = minibatch.observations["policy"].flatten(1)
        seen_by_critic = ActorCritic.critic_sees(minibatch.observations).flatten(1)
        outputs, teach_actor = self._actor.run(seen)
        values, teach_critic = self._critic.run(seen_by_critic)
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
        teach_actor(by_parameters[:, :size])
        teach_critic(by_values)
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
    actor, critic = _network(network.actor, head.outputs), _network(network.critic, network.value_head)
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
        and not _has_shared_parameters(network)
    )


def _has_shared_parameters(network: nn.Module) -> bool:
    """Whether a parameter has several places: its gradients would have to be added up."""
    places = [id(each) for _, each in network.named_parameters(remove_duplicate=False)]
    return len(set(places)) < len(places)


def _is_written(parameter: nn.Parameter) -> bool:
    """Whether a gradient can be written to it, and nobody waits for autograd to do so."""
    usual = parameter.requires_grad and parameter.grad is not None and parameter.device.type == "cpu"
    usual = usual and parameter.dtype in (torch.float32, torch.float64) and parameter.is_contiguous()
    return usual and not (parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def _network(hidden: nn.Module, head: nn.Module) -> _Network | None:
    """Hidden layers and a head; None: they are not all known."""
    if is_hooked(hidden) or is_hooked(head) or type(head) is not nn.Linear or head.bias is None:
        return None
    found = hidden.layers() if type(hidden) is FusedMLP else None
    if type(hidden) is nn.Sequential and not len(hidden):
        found = []
    if found is None:
        return None
    layers = []
    for weight, bias, activation in [*found, (head.weight, head.bias, NO_ACTIVATION)]:
        name = ACTIVATION_NAMES.get(type(activation))
        if name is None:
            return None
        assert weight.grad is not None and bias.grad is not None
        layers.append(TensorLayer(weight.detach(), bias.detach(), weight.grad, bias.grad, name))
    return _Network(layers)
