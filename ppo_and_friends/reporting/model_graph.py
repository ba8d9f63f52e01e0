"""The network's computation as a graph, from one look at one observation: for TensorBoard's Graphs tab."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

INPUT = "observation"
OUTPUTS = ("policy_parameters", "values")


@dataclass(frozen=True)
class Node:
    """An operation, a parameter, an input or an output."""

    name: str
    """Unique; the modules it is in, separated by slashes, then its own name."""

    operation: str
    inputs: tuple[str, ...] = ()
    """Names of the nodes whose results it takes."""

    shape: tuple[int, ...] = ()
    """Of its result; the first axis is the batch of one."""


def graph_of(network: nn.Module, observation: Tensor) -> list[Node]:
    """What the network computes, as it does it for one observation.

    The pass is run on a copy, so that nothing of the network changes.

    Args:
        network: From observations [N, *obs] to a tensor or a tuple of them.
        observation: [1, *obs], or the rows that must not be taken apart.

    Returns:
        Nodes, each after those whose results it takes.

    Raises:
        Exception: Whatever the network raises on such an observation.
    """
    network = copy.deepcopy(network).eval()
    recorder = _Recorder()
    recorder.add(observation, INPUT, "Input", ())
    for name, parameter in network.named_parameters():
        recorder.parameters[id(parameter)] = (_scope(network, name), parameter)
    handles = []
    for name, module in network.named_modules():
        if name:
            handles += _follow(module, _scope(network, name), recorder)
    try:
        with torch.no_grad(), recorder:
            results = network(observation)
    finally:
        for handle in handles:
            handle.remove()
    results = (results,) if isinstance(results, Tensor) else tuple(results)
    names = OUTPUTS if len(results) == len(OUTPUTS) else tuple(f"output_{i}" for i in range(len(results)))
    for name, result in zip(names, results, strict=True):
        recorder.nodes.append(Node(name, "Output", recorder.sources((result,)), tuple(result.shape)))
    return recorder.nodes


def graph_definition(nodes: Sequence[Node]) -> bytes:
    """The nodes as TensorBoard reads them: a serialised ``GraphDef``."""
    from tensorboard.compat.proto import attr_value_pb2, graph_pb2, node_def_pb2, tensor_shape_pb2

    def shape_of(node: Node) -> Any:
        sizes = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in node.shape]
        shapes = attr_value_pb2.AttrValue.ListValue(shape=[tensor_shape_pb2.TensorShapeProto(dim=sizes)])
        return attr_value_pb2.AttrValue(list=shapes)

    definitions = [
        node_def_pb2.NodeDef(
            name=node.name, op=node.operation, input=node.inputs, attr={"_output_shapes": shape_of(node)}
        )
        for node in nodes
    ]
    content: bytes = graph_pb2.GraphDef(node=definitions).SerializeToString()
    return content


@dataclass
class _Recorder(TorchFunctionMode):
    """Sees every call of a torch function, and who made the tensors it takes."""

    nodes: list[Node] = field(default_factory=list)
    parameters: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)
    _made: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    """By id: the node's name, and the tensor, which has to live so that its id isn't used again."""

    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        versions = {id(one): one._version for one in given}
        result = func(*args, **(kwargs or {}))
        # What gives back its argument as it was, such as flattening a vector, does nothing.
        if isinstance(result, Tensor) and versions.get(id(result)) != result._version:
            operation = (resolve_name(func) or getattr(func, "__name__", "?")).rpartition(".")[2].strip("_")
            name = "/".join((*self.scopes[-1:], operation))
            self.add(result, name, operation, self.sources(given))
        return result

    def add(self, result: Tensor, name: str, operation: str, inputs: tuple[str, ...]) -> None:
        """Note what made ``result``."""
        unique, count = name, 1
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        self.nodes.append(Node(unique, operation, inputs, tuple(result.shape)))
        self._made[id(result)] = (unique, result)

    def sources(self, tensors: Sequence[Tensor]) -> tuple[str, ...]:
        """Names of the nodes that made these; constants have none."""
        for tensor in tensors:
            if id(tensor) in self.parameters and id(tensor) not in self._made:
                self.add(tensor, self.parameters[id(tensor)][0], "Parameter", ())
        return tuple(self._made[id(tensor)][0] for tensor in tensors if id(tensor) in self._made)


def _follow(module: nn.Module, scope: str, recorder: _Recorder) -> list[Any]:
    """Tell the recorder when it is inside this module."""

    def enter(*_: Any) -> None:
        recorder.scopes.append(scope)

    def leave(*_: Any) -> None:
        recorder.scopes.pop()

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _scope(network: nn.Module, name: str) -> str:
    """``actor.0.weight`` as ``actor/Linear_0/weight``."""
    parts, module = [], network
    for part in name.split("."):
        child = getattr(module, part)
        parts.append(f"{type(child).__name__}_{part}" if part.isdigit() else part)
        module = child
    return "/".join(parts)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
