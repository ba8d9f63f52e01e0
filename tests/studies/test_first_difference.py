"""Where two runs begin to differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from ppo_and_friends.runs.checkpoint import read_checkpoint, save_checkpoint
from ppo_and_friends.runs.checkpoint_folders import saved_checkpoints
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
    twice = run("--compare", ours, ours)
    assert twice.status == 2 and len(twice.complaint) == 1 and "are the same run" in twice.err
