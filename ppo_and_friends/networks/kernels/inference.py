"""The policy as a plain function, for acting on a few observations at a time.

A small network's arithmetic takes a few microseconds. Calling its modules, whose Python objects have left
the cache while the environments were stepped, takes several times as long (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppo_and_friends.networks.actor_critic import ActorCritic, PolicyHead
from ppo_and_friends.networks.kernels.fused_layers import FusedMLP, fused_layers, is_hooked
from ppo_and_friends.networks.model import Model, Tensors, chosen
from ppo_and_friends.networks.split_encoder import SplitEncoder

Function = Callable[[Tensor], Tensor]

Act = Callable[[Tensors, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""As `Model.act`."""

Step = Callable[[Tensors, Tensor], tuple[Tensor, Tensor]]
"""As `Model.step`."""


def act_function(network: Model) -> Act:
    """``network.act`` as a plain function, if it draws by ``step`` alone; the method itself otherwise."""
    if type(network).act is not Model.act:
        return network.act
    step, distribution = step_function(network), network.distribution

    def act(observations: Tensors, state: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        parameters, state = step(observations, state)
        return chosen(distribution, parameters, observations, noise), state

    return act


def step_function(network: Model) -> Step:
    """``network.step`` as a plain function, if it acts by ``policy`` alone; the method itself otherwise."""
    if type(network).step is not Model.step:
        return network.step
    policy = inference_function(network)
    return lambda observations, state: (policy(observations["policy"]), state)


def inference_function(network: Model) -> Function:
    """``network.policy`` as a plain function.

    Args:
        network: It isn't changed. Parameters that are replaced (not changed in place) later are not seen.

    Returns:
        From observations [N, *obs] to distribution parameters [N, P], without gradients.
    """
    if not isinstance(network, ActorCritic) or type(network).policy is not ActorCritic.policy:
        return network.policy
    return _chain([flattened(part) for part in (network.actor_encoder, network.actor, network.policy_head)])


def flattened(module: nn.Module) -> Function:
    """What a module computes, without the calls of the modules inside it.

    A module that isn't known here, has another ``forward`` than the known ones, or has hooks is called as
    it is.
    """
    if is_hooked(module):
        return module
    known = _FLATTENED.get(type(module).forward)
    if known is not None:
        return known(module)
    is_leaf = next(module.children(), None) is None
    return module.forward if is_leaf else module


def _chain(functions: Sequence[Function]) -> Function:
    """One after the other."""

    def run(inputs: Tensor) -> Tensor:
        for function in functions:
            inputs = function(inputs)
        return inputs

    return run


def _sequential(module: nn.Sequential) -> Function:
    return _chain([flattened(each) for each in module])


def _fused_mlp(module: FusedMLP) -> Function:
    layers = module.layers()
    if layers is None:
        return _sequential(module)
    detached = [(weight.detach(), bias.detach(), activation) for weight, bias, activation in layers]
    return lambda inputs: fused_layers(inputs, detached)


def _linear(module: nn.Linear) -> Function:
    if type(module) is not nn.Linear:  # whose weight may be computed anew at each call
        return module
    bias = None if module.bias is None else module.bias.detach()
    return partial(functional.linear, weight=module.weight.detach(), bias=bias)


def _policy_head(module: PolicyHead) -> Function:
    outputs = flattened(module.outputs)
    if module.log_std is None:
        return outputs
    log_std = module.log_std.detach()

    def parameters(features: Tensor) -> Tensor:
        means = outputs(features)
        return torch.cat((means, log_std.expand(*means.shape[:-1], -1)), dim=-1)

    return parameters


def _split_encoder(module: SplitEncoder) -> Function:
    base, readers = flattened(module.base), [flattened(reader) for reader in module.readers]
    parts = list(zip(readers, module.selections(), strict=True))

    def features(observations: Tensor) -> Tensor:
        vector = base(observations)
        return torch.cat([reader(vector[:, selection]) for reader, selection in parts], dim=-1)

    return features


_FLATTENED: dict[Callable[..., Tensor], Callable[..., Function]] = {
    nn.Sequential.forward: _sequential,
    nn.Linear.forward: _linear,
    FusedMLP.forward: _fused_mlp,
    PolicyHead.forward: _policy_head,
    SplitEncoder.forward: _split_encoder,
}
"""By a module's ``forward``, so that a subclass that computes something else isn't taken for its parent."""
