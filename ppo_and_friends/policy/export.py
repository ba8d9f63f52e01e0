"""A trained policy as an ONNX file: encoding, normalisation, clipping and scaling are in it."""

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
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.policy.exported_modules import (
    Encode,
    RememberingTransform,
    ToEnvironment,
    exported_transform,
)
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.vector.space_descriptions import describe

__all__ = ["ExportedPolicy", "RememberingTransform", "export_onnx", "exported_transform"]

ACTIONS, STATE, NEXT = "actions", "state.", "next_state."


class ExportedPolicy(nn.Module):
    """Parts of observations, then states, to the most probable actions, then the next states.

    Attributes:
        inputs: Names of what ``forward`` takes.
        outputs: Names of what it gives.
        states: Names of the inputs and of the outputs that are to be fed into them next time.
    """

    def __init__(self, policy: TrainedPolicy) -> None:
        """Take over the policy's parts.

        Raises:
            UsageError: A friend of it can't be exported.
        """
        super().__init__()
        agent = policy.agent
        self.encode = Encode(policy.observation_space)
        changing = [friend for friend in friends_of(agent) if type(friend).transform is not Friend.transform]
        self.transforms = nn.ModuleList(exported_transform(friend) for friend in changing)
        self.network, self.distribution = agent.network, agent.mapping.distribution
        self.to_environment = ToEnvironment(agent.mapping)
        self._dtype = agent.dtype
        pairs = zip(changing, self.transforms, strict=True)
        remembering = [friend.name for friend, one in pairs if isinstance(one, RememberingTransform)]
        self.states = {f"{STATE}{name}": f"{NEXT}{name}" for name in remembering}
        self.inputs = [*self.encode.names(), *self.states]
        self.outputs = [ACTIONS, *self.states.values()]

    def examples(self, rows: int) -> list[Tensor]:
        """Inputs of ``rows`` episodes that begin."""
        sizes = [one.size for one in self.transforms if isinstance(one, RememberingTransform)]
        return [
            *self.encode.examples(rows),
            *(torch.zeros((rows, size), dtype=self._dtype) for size in sizes),
        ]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """[N, ...] each, in the order of ``inputs``; gives them in the order of ``outputs``."""
        parts = len(inputs) - len(self.states)
        observations, states = self.encode(inputs[:parts]), list(inputs[parts:])
        changed: list[Tensor] = []
        for transform in self.transforms:
            if isinstance(transform, RememberingTransform):
                observations = transform(observations, states[len(changed)])
                changed.append(observations)
            else:
                observations = transform(observations)
        if observations.is_floating_point():
            observations = observations.to(self._dtype)
        stored = self.distribution.mode(self.network.policy(observations))
        remembering = (one for one in self.transforms if isinstance(one, RememberingTransform))
        following = [one.next_state(seen, stored) for one, seen in zip(remembering, changed, strict=True)]
        return self.to_environment(stored), *(state.to(self._dtype) for state in following)


def export_onnx(policy: TrainedPolicy, path: Path) -> Path:
    """Write the policy as an ONNX model.

    Its inputs are a batch of observations as the environment declares them: ``observations``
    [N, *shape], or for a Dict or Tuple an input ``observations.<key>`` for each part. Its output
    ``actions`` are [N, *action shape], as the environment takes them. A policy that remembers has
    inputs ``state.<friend>``, zeros where an episode begins, and outputs ``next_state.<friend>`` to
    be fed into them at the next step. The metadata say all of this, and what it was trained on.

    Args:
        policy: On the CPU.
        path: ``.onnx``.

    Raises:
        UsageError: The extra ``export`` isn't installed, a friend can't be exported, or the file can't
            be written.
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
    # Two rows, since a batch of one would be taken for a constant.
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
    onnx.helper.set_model_props(model, _described(policy, module))
    try:
        replace_file(path, model.SerializeToString())
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}.") from error
    return path


def _described(policy: TrainedPolicy, module: ExportedPolicy) -> dict[str, str]:
    """The model's metadata."""
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
    """Without what the exporter says about itself and about packages that aren't needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
