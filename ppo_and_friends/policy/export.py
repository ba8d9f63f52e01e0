"""Export of a trained policy to ONNX, including encoding, normalisation, clipping and action scaling."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.nested import parts
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.networks.model import legal
from ppo_and_friends.policy.exported_modules import (
    Encode,
    RememberingTransform,
    environment_actions,
    exported_transform,
)
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.vector.space_descriptions import describe

__all__ = ["ExportedPolicy", "RememberingTransform", "export_onnx", "exported_transform"]

ACTIONS, STATE, NEXT = "actions", "state.", "next_state."

MEMORY = "memory"
"""The network's own state is named like this."""


class ExportedPolicy(nn.Module):
    """A policy as one module: from observation parts and states to the mode's actions and the next states.

    Attributes:
        inputs: Names of the inputs of ``forward``: the observation's parts, the ``action_mask`` if the policy
            was trained with masks, then the states.
        outputs: Names of the outputs of ``forward``: the actions, then the next states.
        states: For each state, the name of its input mapped to the name of the output that is to be
            passed to that input at the next step.
    """

    def __init__(self, policy: TrainedPolicy) -> None:
        """Build the module from a trained policy.

        Raises:
            UsageError: The network or one of the policy's friends can't be exported.
        """
        super().__init__()
        agent = policy.agent
        if agent.network.groups_agents:
            raise UsageError(
                f"{type(agent.network).__name__}, whose agents decide together, can't be exported to ONNX."
            )
        self.encode = Encode(policy.observation_space)
        friends = [friend for friend in friends_of(agent) if type(friend).transform is not Friend.transform]
        self.transforms = nn.ModuleList(exported_transform(friend) for friend in friends)
        self.network, self.distribution = agent.network, agent.mapping.distribution
        self.to_environment = environment_actions(agent.mapping)
        paths = (path for path, _ in parts(agent.mapping.space))
        self.actions = [".".join((ACTIONS, *map(str, path))) for path in paths]
        self._dtype = agent.dtype
        pairs = zip(friends, self.transforms, strict=True)
        stateful = [friend.name for friend, one in pairs if isinstance(one, RememberingTransform)]
        self._memory_size = self.network.policy_state_size
        if self._memory_size:
            stateful.append(MEMORY)
        self.states = {f"{STATE}{name}": f"{NEXT}{name}" for name in stateful}
        self._mask_size = 0 if agent.mask_space is None else agent.mask_space.shape[0]
        masks = ["action_mask"] * bool(self._mask_size)
        self.inputs = [*self.encode.names(), *masks, *self.states]
        self.outputs = [*self.actions, *self.states.values()]

    def examples(self, rows: int) -> list[Tensor]:
        """Return example inputs for a batch of ``rows`` episodes at their first step."""
        sizes = [one.size for one in self.transforms if isinstance(one, RememberingTransform)]
        sizes += [self._memory_size] * (self._memory_size > 0)
        masks = [torch.ones((rows, self._mask_size), dtype=torch.bool)] * bool(self._mask_size)
        return [
            *self.encode.examples(rows),
            *masks,
            *(torch.zeros((rows, size), dtype=self._dtype) for size in sizes),
        ]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute actions and next states.

        Args:
            inputs: [N, ...] each, in the order of the attribute ``inputs``.

        Returns:
            [N, ...] each, in the order of the attribute ``outputs``.
        """
        parts = len(inputs) - len(self.states)
        states = list(inputs[parts:])
        if self._mask_size:
            parts -= 1
        seen = {"action_mask": inputs[parts]} if self._mask_size else {}
        observations = self.encode(inputs[:parts])
        transformed: list[Tensor] = []
        for transform in self.transforms:
            if isinstance(transform, RememberingTransform):
                observations = transform(observations, states[len(transformed)])
                transformed.append(observations)
            else:
                observations = transform(observations)
        if observations.is_floating_point():
            observations = observations.to(self._dtype)
        # A state of no columns, if there is no memory: its rows are the batch's, whose size isn't fixed.
        memory = states[-1] if self._memory_size else observations.flatten(1)[:, :0]
        parameters, memory = self.network.step({"policy": observations}, memory)
        stored = self.distribution.mode(legal(self.distribution, parameters, seen))
        stateful = (one for one in self.transforms if isinstance(one, RememberingTransform))
        next_states = [one.next_state(own, stored) for one, own in zip(stateful, transformed, strict=True)]
        next_states += [memory] * (self._memory_size > 0)
        return *self.to_environment(stored), *(state.to(self._dtype) for state in next_states)


def export_onnx(policy: TrainedPolicy, path: Path) -> Path:
    """Export a policy as an ONNX model.

    The inputs are a batch of observations as the environment declares them: ``observations``
    [N, *shape] or, for a Dict or Tuple space, an input ``observations.<key>`` for each part. The output
    ``actions`` [N, *action shape] holds actions in the environment's units; for a Dict or Tuple
    space there is an output ``actions.<key>`` for each part. For each friend with memory
    there is also an input ``state.<friend>`` [N, size], which must be zero where an episode begins, and
    an output ``next_state.<friend>``, which must be passed to that input at the next step; for a network with
    memory likewise ``state.memory`` and ``next_state.memory``. A policy that was trained with action masks
    has an input ``action_mask`` [N, M] bool. The model's
    metadata describe the inputs, the states, the spaces and the environment.

    Args:
        policy: The policy, on the CPU.
        path: The file to write (``.onnx``).

    Returns:
        ``path``.

    Raises:
        UsageError: The packages of the extra ``export`` aren't installed, a friend can't be exported,
            or the file can't be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise UsageError(
            "--export onnx needs packages that aren't installed: pip install onnx onnxscript"
        ) from None
    module = ExportedPolicy(policy).eval()
    batch = torch.export.Dim("batch")
    # Two rows, because the exporter would take a batch size of one for a constant.
    examples = tuple(module.examples(2))
    with _quiet():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            verbose=False,
            input_names=module.inputs,
            output_names=module.outputs,
            dynamic_shapes=(tuple({0: batch} for _ in examples),),
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, _metadata(policy, module))
    try:
        replace_file(path, model.SerializeToString())
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}.") from error
    return path


def _metadata(policy: TrainedPolicy, module: ExportedPolicy) -> dict[str, str]:
    """Return the ONNX model's metadata."""
    inputs: dict[str, Any] = {
        name: describe(part.space)
        for name, part in zip(module.encode.names(), module.encode.parts, strict=True)
    }
    return {
        "environment": policy.experiment.environment.id,
        "timesteps": str(policy.timesteps),
        "observation_space": json.dumps(describe(policy.observation_space)),
        "action_space": json.dumps(describe(policy.action_space)),
        "inputs": json.dumps(inputs),
        "states": json.dumps(module.states),
        "states_begin_as": "zeros",
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress output and its warnings about packages that aren't needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
