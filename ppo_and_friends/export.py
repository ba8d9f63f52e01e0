"""A trained policy as an ONNX file: normalisation, clipping and scaling are in it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_and_friends.action_mapping import ActionMapping
from ppo_and_friends.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.clipping import ObservationClip
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.normalizers import ObservationNormalizer
from ppo_and_friends.space_descriptions import describe
from ppo_and_friends.trained_policy import TrainedPolicy

INPUT, OUTPUT = "observations", "actions"


@functools.singledispatch
def exported_transform(friend: Friend) -> nn.Module:
    """What a friend does to observations, [N, *obs] to [N, *obs'], as a module that can be exported.

    Register a function for a friend of your own: ``@exported_transform.register``.

    Raises:
        UsageError: The friend can't be exported.
    """
    raise UsageError(
        f"{friend.name} can't be exported: what it does to observations isn't known as a module, or it "
        "remembers earlier ones. Train without it, or register it with export.exported_transform."
    )


class _Normalize(nn.Module):
    """(o - mean) * scale, in double precision as the friend does it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(np.array(mean), dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(np.array(scale), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        return (observations.double() - self.mean) * self.scale


class _Clip(nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, observations: Tensor) -> Tensor:
        return observations.clamp(-self.limit, self.limit)


@exported_transform.register
def _(friend: ObservationNormalizer) -> nn.Module:
    return _Normalize(*friend.statistics())


@exported_transform.register
def _(friend: ObservationClip) -> nn.Module:
    return _Clip(friend.limit)


class _ToEnvironment(nn.Module):
    """`ActionMapping.to_environment` as a module."""

    centre: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor
    start: Tensor

    def __init__(self, mapping: ActionMapping) -> None:
        super().__init__()
        self.mapping = mapping
        space = mapping.space
        self.shape = space.shape or ()
        self.dtype = torch.from_numpy(np.zeros(1, space.dtype)).dtype
        if isinstance(space, spaces.Box):
            numbers = {"centre": mapping.centre, "half_range": mapping.half_range}
            for name, value in (numbers | {"low": space.low, "high": space.high}).items():
                self.register_buffer(name, torch.as_tensor(np.array(value).reshape(-1), dtype=torch.float64))
        else:
            self.register_buffer("start", torch.as_tensor(np.array(mapping.start), dtype=torch.int64))

    def forward(self, actions: Tensor) -> Tensor:
        space = self.mapping.space
        if isinstance(space, spaces.Box):
            if self.mapping.squash:
                actions = actions.tanh()
            scaled = actions.double() * self.half_range + self.centre
            scaled = torch.minimum(torch.maximum(scaled, self.low), self.high)
            if np.issubdtype(space.dtype, np.integer):
                scaled = scaled.round()
            result = scaled.to(self.dtype)
        else:
            result = (actions + self.start).to(self.dtype)
        return result.unflatten(-1, self.shape) if self.shape else result[:, 0]


class ExportedPolicy(nn.Module):
    """Encoded observations [N, *obs] to the environment's most probable actions [N, *action shape]."""

    def __init__(self, policy: TrainedPolicy) -> None:
        """Take over the policy's parts.

        Raises:
            UsageError: A friend of it can't be exported.
        """
        super().__init__()
        agent = policy.agent
        changing = [friend for friend in agent.friends if type(friend).transform is not Friend.transform]
        self.transforms = nn.ModuleList(exported_transform(friend) for friend in changing)
        self.network, self.distribution = agent.network, agent.mapping.distribution
        self.to_environment = _ToEnvironment(agent.mapping)
        self._dtype = agent.dtype

    def forward(self, observations: Tensor) -> Tensor:
        """See the class."""
        for transform in self.transforms:
            observations = transform(observations)
        if observations.is_floating_point():
            observations = observations.to(self._dtype)
        actions: Tensor = self.to_environment(self.distribution.mode(self.network.policy(observations)))
        return actions


def export_onnx(policy: TrainedPolicy, path: Path) -> Path:
    """Write the policy as an ONNX model.

    Its input ``observations`` is a batch [N, *obs] as `vector.codec.Encoder` gives it: an image as it
    is, everything else flat, as ``gymnasium.spaces.flatten`` does it. Its output ``actions`` are
    [N, *action shape], as the environment takes them. Its metadata says what it was trained on.

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
    space = policy.encoded_space
    # Two rows, since a batch of one would be taken for a constant.
    example = torch.from_numpy(np.zeros((2, *space.shape), space.dtype))
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    model = program.model_proto
    described = {
        "environment": policy.experiment.environment.id,
        "timesteps": str(policy.timesteps),
        "observation_space": json.dumps(describe(policy.observation_space)),
        "action_space": json.dumps(describe(policy.action_space)),
    }
    onnx.helper.set_model_props(model, described)
    try:
        replace_file(path, model.SerializeToString())
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}.") from error
    return path


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
