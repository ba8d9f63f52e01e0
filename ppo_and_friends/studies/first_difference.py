"""Where two runs that should be equal, bit for bit, begin to differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.reporting.run_record import load_settings
from ppo_and_friends.runs.checkpoint import Checkpoint, read_checkpoint, read_environments
from ppo_and_friends.runs.checkpoint_folders import saved_checkpoints
from ppo_and_friends.runs.run_folder import RunFolder, policies_in

SHOWN = 4
"""Maximum number of settings, columns and tensors in a line."""


def are_two_runs(patterns: tuple[str, ...] | list[str]) -> bool:
    """Whether these are two folders of a single run each."""
    return len(patterns) == 2 and all(_is_run(Path(pattern)) for pattern in patterns)


def _is_run(folder: Path) -> bool:
    run = RunFolder(folder)
    return run.progress.is_file() or run.checkpoints.is_dir() or bool(policies_in(folder))


def compare_bits(first: Path, second: Path) -> str:
    """Compare the metrics of every iteration, and the tensors of all checkpoints that both runs have.

    Of runs with several policies, each policy's. States of environments are compared where both have them.
    Times are left out, and so is what doesn't depend on the training, such as the numbers of ranks.

    Args:
        first: A run's folder.
        second: Another run's.

    Returns:
        Lines for the user.

    Raises:
        UsageError: Both are the same folder, or one has nothing to compare.
        CheckpointError: A checkpoint is damaged.
    """
    if first.resolve() == second.resolve():
        raise UsageError(f"--compare: {first} and {second} are the same run.")
    return "\n".join(_lines(first, second))


def _lines(first: Path, second: Path) -> Iterator[str]:
    yield from _settings(first, second)
    ours, theirs = policies_in(first), policies_in(second)
    for name in ours | theirs:
        if name not in ours or name not in theirs:
            yield f"Policies differ: {name} is in one of the runs only."
            continue
        yield f"Policy {name}:"
        yield from (_rows(ours[name], theirs[name]), _checkpoints(ours[name], theirs[name]))
    if not ours | theirs:
        yield from (_rows(first, second), _checkpoints(first, second))


def _settings(first: Path, second: Path) -> Iterator[str]:
    ours, theirs = load_settings(first), load_settings(second)
    changed = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if changed:
        shown = [f"{name} ({ours.get(name)} and {theirs.get(name)})" for name in changed[:SHOWN]]
        yield f"Settings: {_listed(shown, len(changed))} differ."


def _rows(first: Path, second: Path) -> str:
    (columns, ours), (others, theirs) = (read_rows(folder / "progress.csv") for folder in (first, second))
    if not ours or not theirs:
        return f"Metrics: {first if not ours else second} has no progress.csv with rows."
    names = [name for name in columns if name in others and not _is_time(name)]
    by_iteration = {row["iteration"]: row for row in theirs}
    both = [(row, by_iteration[row["iteration"]]) for row in ours if row["iteration"] in by_iteration]
    if not both:
        return "Metrics: the runs have no iteration in common."
    for mine, other in both:
        apart = [name for name in names if mine[name] != other[name]]
        if apart:
            shown = [f"{name} ({mine[name]} and {other[name]})" for name in apart[:SHOWN]]
            return f"Metrics: first differ in iteration {mine['iteration']}: {_listed(shown, len(apart))}."
    return f"Metrics: equal in {len(both):,} iterations, times aside."


def _is_time(column: str) -> bool:
    return column in ("seconds", "steps_per_second") or column.startswith("time_")


def _checkpoints(first: Path, second: Path) -> str:
    ours, theirs = (saved_checkpoints(RunFolder(folder).checkpoints) for folder in (first, second))
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return (
            "Checkpoints: the runs have none of the same number of timesteps. To keep one of each iteration: "
            "--set checkpoint_seconds=0 keep_checkpoints=1000"
        )
    for timesteps in common:
        mine, other = read_checkpoint(ours[timesteps]), read_checkpoint(theirs[timesteps])
        apart = list(_apart(mine, other))
        if apart:
            where = f"iteration {mine.state.get('iteration', '?')} ({timesteps:,} timesteps)"
            return f"Checkpoints: first differ at {where}: {_listed(apart[:SHOWN], len(apart))}."
    count = f"{len(common):,} {'checkpoint' if len(common) == 1 else 'checkpoints'}"
    return f"Checkpoints: equal bit for bit, {count}, the last at {common[-1]:,} timesteps."


def _apart(first: Checkpoint, second: Checkpoint) -> Iterator[str]:
    """What differs, in the order in which it was saved."""
    yield from _tensors_apart(first.tensors, second.tensors)
    for key in dict.fromkeys((*first.state, *second.state)):
        mine, other = (repr(each.state.get(key)) for each in (first, second))  # NaN isn't equal to itself
        if key != "seconds" and mine != other:
            yield f"{key} ({_short(mine)} and {_short(other)})"
    ours, theirs = read_environments(first), read_environments(second)
    if ours is not None and theirs is not None:
        yield from _tensors_apart(ours, theirs)


def _tensors_apart(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Iterator[str]:
    for name in dict.fromkeys((*first, *second)):
        mine, other = first.get(name), second.get(name)
        if mine is None or other is None:
            yield f"{name} (in one of them only)"
        elif (text := _difference(mine, other)) is not None:
            yield f"{name} ({text})"


def _difference(first: Tensor, second: Tensor) -> str | None:
    """How two tensors differ; None if they are equal bit for bit."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return f"{first.dtype}{list(first.shape)} and {second.dtype}{list(second.shape)}"
    if not first.numel():
        return None
    flat = [each.contiguous().view(-1) for each in (first, second)]
    bits = [each.view(torch.uint8).view(first.numel(), -1) for each in flat]
    apart = (bits[0] != bits[1]).any(dim=1)
    if not apart.any():
        return None
    mine, other = (each[apart].double() for each in flat)
    most = (mine - other).abs().max().item()
    return f"{len(mine):,} of {first.numel():,} numbers, by {most:.1e} at most"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(shown: list[str], count: int) -> str:
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return ", ".join(shown) + more
