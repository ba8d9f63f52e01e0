"""Whether a checkpoint's tensors are those of an agent with the same settings."""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import Tensor

from ppo_and_friends.common.tensors import is_finite, tensor_fault
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.errors import IncompatibleState, PPOError, UsageError
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.runs.checkpoint import TENSORS, Checkpoint, damaged
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import experiment_settings


def check_tensors(
    agent: Agent, saved: Mapping[str, Tensor], checkpoint: Checkpoint, experiment: Experiment | None
) -> None:
    """Check that all tensors fit, before any is copied.

    A friend's tensor may be missing, or not needed any more, if friends or the version have changed.

    Args:
        agent: As it is when a run begins.
        saved: The checkpoint's tensors but for the optimizer's.
        checkpoint: Where they are from.
        experiment: The agent's settings; None: unknown.

    Raises:
        CheckpointError: A tensor doesn't fit, though the settings on which it depends are the saved ones.
        IncompatibleState: A tensor doesn't fit.
    """
    own = agent.tensors()
    same = _same_settings(checkpoint, experiment)
    own_code = _project_friends(agent)
    own_model = experiment is not None and experiment.network.model is None
    for name in [*own, *(name for name in saved if name not in own)]:
        owner = name.split(".")[1] if name.startswith("friends.") else None
        if name in own and name in saved:
            fault = tensor_fault(own[name], saved[name])
        else:
            fault = "is missing" if name in own else "is not a tensor of this run"
        if fault is None:
            continue
        if fault.endswith("values") or (same and (own_model if owner is None else owner in own_code)):
            raise damaged(checkpoint, TENSORS, f"{name} {fault}")
        if owner is None or (name in own and name in saved):
            raise IncompatibleState(
                f"The state saved in {checkpoint.path} is not compatible: {name} {fault}.\n"
                "Use the saved friends and settings, or start over with --clobber."
            )


def check_moments(
    own: Mapping[str, Tensor], saved: Mapping[str, Tensor], checkpoint: Checkpoint, experiment: Experiment
) -> None:
    """Check that Adam's moments fit, where neither friends nor the version have changed.

    Args:
        own: The optimizer's state, by name.
        saved: The checkpoint's, by the same names. Groups that took no step are missing.
        checkpoint: Where they are from.
        experiment: The trainer's settings.

    Raises:
        CheckpointError: A moment doesn't fit.
    """
    if not _same_settings(checkpoint, experiment) or experiment.network.model is not None:
        return
    if any(spec.kind is not None or ":" in spec.name for spec in experiment.friends):
        return  # their parameters are what their authors make them today
    for name, tensor in saved.items():
        fault = tensor_fault(own[name], tensor) if name in own else "is not a tensor of this run"
        if fault is not None:
            raise damaged(checkpoint, TENSORS, f"optimizer.{name} {fault}")


def finite_names(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the tensors without NaN or infinite values: they must never have any.

    Args:
        tensors: A new run's. What isn't finite then, such as the best score so far, may stay so.
    """
    return frozenset(name for name, tensor in tensors.items() if is_finite(tensor))


def refuse_unsavable(network: Mapping[str, Tensor]) -> None:
    """Refuse a network that no checkpoint could hold, before it is trained.

    Args:
        network: A new run's tensors by name, of which those of the network are looked at.

    Raises:
        UsageError: Names the tensor.
    """
    for name, tensor in network.items():
        if name.startswith("network.") and not is_finite(tensor):
            raise UsageError(
                f"{name} has NaN or infinite values from the start, and checkpoints with such values are "
                "refused.\nA constant, such as a mask, isn't part of a checkpoint if it is registered by "
                "register_buffer(..., persistent=False)."
            )


def refuse_infinite(tensors: Mapping[str, Tensor], always: Container[str]) -> None:
    """Refuse to save tensors with NaN or infinite values, which no run could go on from.

    Args:
        tensors: What is to be saved, equal on all ranks.
        always: Names of what must be finite; what begins with ``network.`` or ``optimizer.`` must as well.

    Raises:
        PPOError: Names the tensor.
    """
    for name, tensor in tensors.items():
        wanted = name in always or name.startswith(("network.", "optimizer."))
        if wanted and not is_finite(tensor):
            raise PPOError(
                f"{name} has NaN or infinite values, so nothing is saved; the last checkpoint is kept.\n"
                "Lower ppo.learning_rate, or normalise observations and rewards."
            )


def _same_settings(checkpoint: Checkpoint, experiment: Experiment | None) -> bool:
    """Whether this version wrote the checkpoint, with the same friends."""
    settings = checkpoint.manifest.get("experiment")
    versions = checkpoint.manifest.get("trained_with") or checkpoint.manifest.get("versions")
    if experiment is None or not isinstance(settings, dict) or not isinstance(versions, dict):
        return False
    project = "ppo-and-friends"
    same_version = versions.get(project) == library_versions().get(project)
    return same_version and settings.get("friends") == experiment_settings(experiment)["friends"]


def _project_friends(agent: Agent) -> set[str]:
    """Names of the friends whose code is the project's: others' may change between two sessions."""
    friends = friends_of(agent)
    return {each.name for each in friends if type(each).__module__.startswith("ppo_and_friends.")}
