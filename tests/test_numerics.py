"""Numbers out of all proportion never replace what is saved by what can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.runs.saved_tensors import finite_names, refuse_infinite, refuse_unsavable
from tests.command_line import latest, run, toy
from tests.toys import FOLDER

ONE_STEP = ("--set=ppo.epochs=1", "--set=ppo.minibatch_size=128", "--set=checkpoint_seconds=0")
"""A single gradient step an iteration: the ten in a row that give a run up take ten iterations."""


def test_infinite_weights_are_not_saved_over_good_ones(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, *ONE_STEP, "--with=BestPolicyKeeper", timesteps=300)).status == 0
    before = latest(tmp_path)
    done = run(
        *toy(tmp_path, *ONE_STEP, "--with=BestPolicyKeeper", timesteps=900),
        "--set=ppo.learning_rate=1e300",
        "--accept_changes",
    )
    assert done.status == 1
    assert (
        "network." in done.err
        and "has NaN or infinite values, so nothing is saved; the last checkpoint is kept" in done.err
    )
    assert "Lower ppo.learning_rate" in done.err and len(done.complaint) == 2
    after = latest(tmp_path)
    assert after.path == before.path and after.notes == ()
    # The next session goes on from there.
    assert run(*toy(tmp_path, *ONE_STEP, "--with=BestPolicyKeeper", timesteps=900)).status == 0
    assert latest(tmp_path).timesteps >= 900 and (tmp_path / FOLDER).is_dir()


def test_what_is_not_there_yet_may_be_nan() -> None:
    fresh = {"friends.Best.score": torch.tensor(float("nan")), "friends.Mean.mean": torch.zeros(2)}
    always = finite_names(fresh)
    refuse_infinite(fresh, always)
    refuse_infinite({"friends.Count.n": torch.tensor(3)}, always)
    for name in ("friends.Mean.mean", "network.w", "optimizer.ppo.exp_avg"):
        with pytest.raises(PPOError, match=name):
            refuse_infinite({name: torch.tensor([0.0, float("inf")])}, always)


def test_a_network_that_cannot_be_saved_is_refused_before_it_is_trained() -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1), persistent=False)
    refuse_unsavable({f"network.{name}": tensor for name, tensor in module.state_dict().items()})
    refuse_unsavable({"friends.Best.score": torch.tensor(float("nan"))})
    module.register_buffer("other", torch.full((2, 2), float("-inf")).triu(1))
    with pytest.raises(UsageError, match=r"network.other .* from the start.*\n.*persistent=False"):
        refuse_unsavable({f"network.{name}": tensor for name, tensor in module.state_dict().items()})
