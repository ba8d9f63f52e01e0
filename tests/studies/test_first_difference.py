"""Where two runs begin to differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ppo_and_friends.runs.checkpoint import read_checkpoint, save_checkpoint
from ppo_and_friends.runs.checkpoint_folders import saved_checkpoints
from ppo_and_friends.studies.first_difference import compare_bits
from tests.command_line import run, toy
from tests.toys import FOLDER

KEPT = ("--set=checkpoint_seconds=0", "--set=keep_checkpoints=10", "--random_seed=3")


def test_two_runs_are_compared_iteration_by_iteration_and_tensor_by_tensor(tmp_path: Path) -> None:
    assert run(*toy(tmp_path / "a", *KEPT)).status == 0
    ours = tmp_path / "a" / FOLDER
    theirs = tmp_path / "b"
    shutil.copytree(ours, theirs)
    same = run("--compare", ours, theirs)
    assert same.status == 0
    assert same.out.splitlines() == [
        "Metrics: equal in 6 iterations, times aside.",
        "Checkpoints: equal bit for bit, 6 checkpoints, the last at 732 timesteps.",
    ]
    # Another row in iteration 4, other times in iteration 2, and another number in the third checkpoint.
    table = theirs / "progress.csv"
    lines = table.read_text().splitlines()
    columns = lines[0].split(",")
    for line, column, value in ((2, "seconds", "7"), (4, "kl", "0.5"), (5, "entropy", "0.1")):
        cells = lines[line].split(",")
        cells[columns.index(column)] = value
        lines[line] = ",".join(cells)
    table.write_text("\n".join(lines) + "\n")
    third = sorted(saved_checkpoints(theirs / "checkpoints").items())[2][1]
    saved = read_checkpoint(third)
    name = "network.actor.0.weight"
    changed = saved.tensors[name].clone()
    changed[0, 0] += 0.25
    shutil.rmtree(third)
    tensors = saved.tensors | {name: changed}
    save_checkpoint(theirs / "checkpoints", saved.timesteps, tensors, saved.state, keep=10)
    assert torch.equal(load_file(third / "tensors.safetensors")[name], changed)
    metrics, checkpoints = run("--compare", ours, theirs).out.splitlines()
    assert metrics.startswith("Metrics: first differ in iteration 4: kl (") and metrics.endswith(" and 0.5).")
    assert checkpoints == (
        f"Checkpoints: first differ at iteration 3 ({saved.timesteps} timesteps): {name} "
        "(1 of 48 numbers, by 2.5e-01 at most)."
    )


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    for place, seed, timesteps in (("a", 1, 128), ("b", 2, 256)):
        assert run(*toy(tmp_path / place, f"--random_seed={seed}", timesteps=timesteps)).status == 0
    ours, theirs = tmp_path / "a" / FOLDER, tmp_path / "b" / FOLDER
    settings, metrics, checkpoints = run("--compare", ours, theirs).out.splitlines()
    assert settings == "Settings: num_timesteps (128 and 256), random_seed (1 and 2) differ."
    assert metrics.startswith("Metrics: first differ in iteration 1: ")
    assert checkpoints.startswith("Checkpoints: the runs have none of the same number of timesteps.")
    missing = run("--compare", ours, tmp_path / "nowhere")
    assert missing.status == 2 and "there are no runs" in missing.err and len(missing.complaint) == 1
    twice = run("--compare", ours, ours)
    assert twice.status == 2 and len(twice.complaint) == 1 and "are the same run" in twice.err


SAVED = {"none": torch.empty(0, 3), "whole": torch.tensor([1.0, torch.inf, torch.nan])}
STATE = {"iteration": 1, "score": float("nan"), "seconds": 1.0}
STATES = {"bytes": torch.tensor([1, 2], dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("changed", "environments", "found"),
    [
        ({}, STATES, "equal bit for bit, 1 checkpoint, the last at 10 timesteps."),
        ({}, None, "equal bit for bit, 1 checkpoint, the last at 10 timesteps."),
        # The infinities are equal, though their difference isn't a number.
        (
            {"whole": torch.tensor([1.5, torch.inf, torch.nan])},
            STATES,
            "whole (1 of 3 numbers, by 5.0e-01",
        ),
        ({"none": torch.empty(3, 0)}, STATES, "none (torch.float32[0, 3] and torch.float32[3, 0])."),
        (
            {},
            {"bytes": torch.tensor([1, 5], dtype=torch.uint8)},
            "bytes (1 of 2 numbers, by 3.0e+00 at most).",
        ),
    ],
)
def test_odd_numbers_and_states_of_environments_are_compared(
    tmp_path: Path,
    changed: dict[str, torch.Tensor],
    environments: dict[str, torch.Tensor] | None,
    found: str,
) -> None:
    save_checkpoint(tmp_path / "a" / "checkpoints", 10, SAVED, STATE, environments=STATES)
    state = STATE | {"seconds": 2.0}
    save_checkpoint(tmp_path / "b" / "checkpoints", 10, SAVED | changed, state, environments=environments)
    metrics, checkpoints = compare_bits(tmp_path / "a", tmp_path / "b").splitlines()
    assert found in checkpoints and "has no progress.csv" in metrics


def test_rows_are_compared_by_iteration_and_each_policy_by_itself(tmp_path: Path) -> None:
    for place, first in (("a", 1), ("b", 2)):
        for name, ours in (("cat", "0.5"), ("dog", "0.5" if place == "a" else "0.25")):
            folder = tmp_path / place / "policies" / name
            save_checkpoint(folder / "checkpoints", 10, SAVED, STATE)
            lines = [f"{k},{ours}" for k in range(first, 4)]
            (folder / "progress.csv").write_text("\n".join(("iteration,kl", *lines)) + "\n")
    done = run("--compare", tmp_path / "a", tmp_path / "b")
    equal = "Checkpoints: equal bit for bit, 1 checkpoint, the last at 10 timesteps."
    assert done.status == 0 and done.out.splitlines() == [
        "Policy cat:",
        "Metrics: equal in 2 iterations, times aside.",
        equal,
        "Policy dog:",
        "Metrics: first differ in iteration 2: kl (0.5 and 0.25).",
        equal,
    ]
