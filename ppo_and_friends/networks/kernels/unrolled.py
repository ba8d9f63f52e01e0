"""Networks as plain functions, for acting on a few observations at a time.

A small network's arithmetic takes a few microseconds. Calling its modules, whose Python objects have left
the cache while the environments were stepped, takes several times as long (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

Function = Callable[[Tensor], Tensor]


def unrolled(module: nn.Module) -> Function:
    """What a module computes, without the calls of the modules inside it.

    A module that is made of others, and wants to be looked into, has a method ``unrolled`` of its own. That
    of a parent class isn't used where ``forward`` is another.

    Args:
        module: Any; it isn't changed. Parameters that are replaced (not changed in place) later are not seen.

    Returns:
        For inference: gradients are not its purpose.
    """
    if hooked(module):
        return module
    kind = type(module)
    if isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward:
        return chain([unrolled(each) for each in module])
    if type(module) is nn.Linear:
        bias = None if module.bias is None else module.bias.detach()
        return partial(functional.linear, weight=module.weight.detach(), bias=bias)
    own = getattr(kind, "unrolled", None)
    if own is not None and issubclass(_defining(kind, "unrolled"), _defining(kind, "forward")):
        function: Function = own(module)
        return function
    is_leaf = next(module.children(), None) is None
    return module.forward if is_leaf else module


def chain(functions: list[Function]) -> Function:
    """One after the other."""

    def run(inputs: Tensor) -> Tensor:
        for function in functions:
            inputs = function(inputs)
        return inputs

    return run


def _defining(kind: type, method: str) -> type:
    """The class from which ``kind`` has a method."""
    return next(each for each in kind.__mro__ if method in vars(each))


def hooked(module: nn.Module) -> bool:
    """Whether somebody watches the module's calls."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)
