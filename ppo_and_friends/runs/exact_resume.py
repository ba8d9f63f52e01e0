"""Exact resumption: states of environments and rows in checkpoints, by their global indices.

Everything is saved in the order of the run's environments, whichever ranks had them, so that a run may go on
with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.tensors import tensor_fault
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import IncompatibleState, PPOError, UsageError
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.ppo.rows import Rows, of_prefix, prefixed
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import ENVIRONMENTS, Checkpoint, damaged, read_environments
from ppo_and_friends.vector.states.errors import BadStateError, NoStateError

Array = NDArray[Any]

BYTES, SIZES, ROWS = "environments.bytes", "environments.sizes", "rows"

ANEW = "They begin new episodes."


class UnsavableState(PPOError):
    """Something that came up while a run went on can't be saved; equal on all ranks."""


def check_engine(envs: Any) -> None:
    """Refuse an engine whose environments' states can't be saved.

    Args:
        envs: Of one rank.

    Raises:
        UsageError: Names the engine, and those that can.
    """
    engine = getattr(envs, "env", envs)
    if not hasattr(engine, "get_states"):
        name = getattr(engine, "backend", type(engine).__name__)
        raise UsageError(
            f"exact_resume: the engine {name!r} can't save the states of its environments. "
            "Use --set environment.backend=gymnasium (or async)."
        )


def capture_environments(trainer: Trainer) -> dict[str, Tensor] | None:
    """States of all ranks' environments and rows, by name. A collective.

    Returns:
        Equal on all ranks; None before the first rollout.

    Raises:
        UnsavableState: On all ranks, if a state can't be saved; says whose and why.
    """
    if trainer.collector.needs_reset:
        return None
    communicator = trainer.communicator
    states, rows, problem = list[bytes](), dict[str, Array](), ""
    try:
        states, rows = _engine(trainer).get_states(), _rows(trainer)
    except (NoStateError, UsageError) as error:
        problem = str(error)
    problems = [each for each in communicator.gather(problem) if each]
    if problems:
        raise UnsavableState(f"The states of the environments can't be saved: {problems[0]}.")
    sizes = np.array([len(state) for state in states], np.int64)
    joined = np.frombuffer(b"".join(states), np.uint8)
    found = {
        BYTES: torch.from_numpy(communicator.concatenate(joined)),
        SIZES: torch.from_numpy(communicator.concatenate(sizes)),
    }
    for name in sorted(rows):
        found[f"{ROWS}.{name}"] = torch.from_numpy(_of_all_ranks(rows[name], communicator))
    return found


def load_environments(communicator: Communicator, checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """What `capture_environments` returned, from a checkpoint; None: it holds none. A collective.

    Raises:
        CheckpointError: On all ranks, if the file is damaged.
    """
    return on_main(communicator, lambda: read_environments(checkpoint))


def restore_environments(
    trainer: Trainer, checkpoint: Checkpoint, tensors: Mapping[str, Tensor] | None
) -> list[str]:
    """Set the states of this rank's environments and rows.

    Args:
        trainer: Restored from the checkpoint, before its first iteration.
        checkpoint: Where it is from.
        tensors: What it holds of environments; None: nothing.

    Returns:
        Notes for the user, if environments begin new episodes.

    Raises:
        CheckpointError: The content can't be a run's.
        IncompatibleState: It doesn't fit the environments.
    """
    if tensors is None:
        return [f"The checkpoint has no states of environments (it was saved without --exact_resume). {ANEW}"]
    layout = trainer.layout
    sizes, content = tensors.get(SIZES), tensors.get(BYTES)
    if not _is_vector(sizes, torch.int64) or not _is_vector(content, torch.uint8):
        raise damaged(checkpoint, ENVIRONMENTS, f"{SIZES} or {BYTES} is missing or of another kind")
    assert sizes is not None and content is not None
    ends = np.cumsum(sizes.numpy())
    if bool((sizes < 0).any()) or len(content) != (ends[-1] if len(ends) else 0):
        raise damaged(checkpoint, ENVIRONMENTS, f"{SIZES} doesn't fit {BYTES}")
    total, first, local = _environments(trainer)
    if len(sizes) != total:
        return [f"The checkpoint has states of {len(sizes)} environments, and there are {total} now. {ANEW}"]
    trainer.collector.reset(trainer.iteration)
    rows = {
        name.removeprefix(f"{ROWS}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{ROWS}.")
    }
    own = {name: tensor[layout.first : layout.first + layout.local].numpy() for name, tensor in rows.items()}
    _check_rows(trainer, own, checkpoint)
    starts = ends - sizes.numpy()
    states = [content[starts[e] : ends[e]].numpy().tobytes() for e in range(first, first + local)]
    try:
        _engine(trainer).set_states(states)
        trainer.restore_rows(of_prefix("trainer", own))
        for friend in friends_of(trainer.agent):
            kept = of_prefix(f"friends.{friend.name}", own)
            if kept:
                friend.restore_rows(kept)
    except (BadStateError, KeyError, IndexError) as error:
        raise damaged(checkpoint, ENVIRONMENTS, str(error)) from error
    except NoStateError as error:
        raise IncompatibleState(
            f"The states of environments saved in {checkpoint.path} don't fit: {error}.\n"
            "Go on without --exact_resume: they begin new episodes then."
        ) from error
    return []


def _engine(trainer: Trainer) -> Any:
    envs = trainer.collector.envs
    return getattr(envs, "env", envs)


def _environments(trainer: Trainer) -> tuple[int, int, int]:
    """Environments over all ranks, the first one here, and how many there are here."""
    layout, agents = trainer.layout, max(1, len(getattr(trainer.collector.envs, "agents", ())))
    return layout.total // agents, layout.first // agents, layout.local // agents


def _rows(trainer: Trainer) -> dict[str, Array]:
    rows = prefixed("trainer", trainer.rows())
    for friend in friends_of(trainer.agent):
        rows |= prefixed(f"friends.{friend.name}", friend.rows())
    return rows


def _check_rows(trainer: Trainer, saved: Rows, checkpoint: Checkpoint) -> None:
    """Check saved rows against those that the trainer has after a reset, which may be fewer."""
    own = _rows(trainer)
    for name, array in own.items():
        if name.startswith("friends.") and name not in saved:
            continue  # a friend that is new
        if name not in saved:
            raise damaged(checkpoint, ENVIRONMENTS, f"{ROWS}.{name} is missing")
        fault = tensor_fault(torch.from_numpy(array), torch.from_numpy(saved[name]))
        if fault is not None:
            raise damaged(checkpoint, ENVIRONMENTS, f"{ROWS}.{name} {fault}")
    for name, array in saved.items():
        if len(array) != trainer.layout.local:
            raise damaged(checkpoint, ENVIRONMENTS, f"{ROWS}.{name} has not an entry for each row")


def _of_all_ranks(array: Array, communicator: Communicator) -> Array:
    """[R, ...] of all ranks' [B, ...], of any type."""
    array = np.ascontiguousarray(array)
    size = array.nbytes // max(1, len(array))
    if not size:
        count = len(communicator.concatenate(np.zeros(len(array), np.uint8)))
        return np.zeros((count, *array.shape[1:]), array.dtype)
    whole = communicator.concatenate(array.view(np.uint8).reshape(len(array), size))
    return whole.view(array.dtype).reshape(len(whole), *array.shape[1:])


def _is_vector(tensor: Tensor | None, kind: torch.dtype) -> bool:
    return tensor is not None and tensor.ndim == 1 and tensor.dtype == kind
