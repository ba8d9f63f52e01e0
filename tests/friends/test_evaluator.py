"""Evaluations while training, and the best policy's checkpoint."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.friends import Controls
from ppo_and_friends.friends.evaluator import BestPolicyKeeper, Evaluator
from ppo_and_friends.runs import best_policy, checkpoint
from ppo_and_friends.runs.checkpoint import load_latest
from ppo_and_friends.runs.checkpoint_contents import restore_agent
from ppo_and_friends.settings.experiment import friend
from tests.command_line import latest, run, toy
from tests.friends.runs import assert_same_on_any_ranks, build, experiment, on_ranks, trained
from tests.toys import FOLDER


def test_it_evaluates_when_due_and_does_not_disturb() -> None:
    plain, _ = trained(experiment([friend("ObservationNormalizer")]), 4)
    chosen = experiment([friend("ObservationNormalizer"), friend("Evaluator", every=150, episodes=2)])
    trainer = build(chosen)
    scores, steps = [], []
    for _ in range(4):
        scores.append(trainer.train_iteration()["Evaluator/score"])
        steps.append(trainer.timesteps)
    # About 70 valid timesteps an iteration: due once 150 are done, and once 300 are.
    assert np.isnan(scores[0]) == (steps[0] < 150)
    known = [score for score in scores if not np.isnan(score)]
    assert len(set(known)) == len([k for k in (150, 300) if k <= steps[-1]])
    assert torch.equal(plain.optimizer.parameters, trainer.optimizer.parameters)


@pytest.mark.parametrize("share", [True, False])
def test_scores_do_not_depend_on_who_plays(share: bool) -> None:
    chosen = experiment([friend("Evaluator", every=1, episodes=5, share=share)])
    assert_same_on_any_ranks(chosen)
    shared = experiment([friend("Evaluator", every=1, episodes=5)], precision="float64")
    alone = on_ranks(shared, 1)[0]["friends.Evaluator.score"]
    np.testing.assert_allclose(on_ranks(shared, 3)[2]["friends.Evaluator.score"], alone, rtol=1e-9)


def test_training_ends_at_the_target() -> None:
    for target, done in ((-1e9, True), (1e9, False)):
        trainer, _ = trained(experiment([friend("Evaluator", every=1, episodes=1, target=target)]), 1)
        assert trainer.friends.finished() == done
    assert not build(experiment([friend("Evaluator", target=-1e9)])).friends.finished()


def test_scores_stand_only_where_they_were_measured() -> None:
    """Rollouts of some 90 timesteps, an evaluation every 200: its score isn't repeated in between."""
    trainer = build(experiment([friend("Evaluator", every=200, episodes=1)]))
    known, before = [], 0
    for _ in range(8):
        metrics = trainer.train_iteration()
        due = trainer.timesteps // 200 > before // 200
        assert math.isnan(metrics["Evaluator/score"]) == (not due)
        known += [metrics["Evaluator/score"]] * due
        assert metrics["Evaluator/best"] == max(known) if known else math.isnan(metrics["Evaluator/best"])
        before = trainer.timesteps
    assert 1 < len(known) < 8


def test_the_end_at_the_target_is_said(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "--target_score=-1", "--eval_every=300", "--eval_episodes=2", timesteps=6000))
    score = latest(tmp_path).tensors["friends.Evaluator.score"].item()
    assert done.status == 0 and latest(tmp_path).timesteps < 1000
    said = f"an evaluation's mean score, {format_value(score)}, reached the target -1."
    assert f"Training ended before its 6,000 timesteps: {said}" in done.out
    assert f"Mean scores: last evaluation {format_value(score)}, last " in done.out
    lines = [line for line in done.out.splitlines() if line.startswith("iteration ")]
    assert f"evaluation {format_value(score)}  return" in lines[-1] and "evaluation" not in lines[0]


@pytest.mark.parametrize("keeper_first", [True, False])
def test_the_best_policy_is_kept_apart(keeper_first: bool, tmp_path: Path) -> None:
    friends = [friend("Evaluator", every=1, episodes=2), friend("BestPolicyKeeper")]
    chosen = experiment(friends[::-1] if keeper_first else friends)
    trainer = build(chosen, folder=tmp_path)
    best: Any = (-np.inf, 0, None)
    for _ in range(5):
        score = trainer.train_iteration()["Evaluator/score"]
        if score > best[0]:
            weights = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
            best = (score, trainer.timesteps, weights)
    trainer.friends.before_checkpoint()
    saved = load_latest(tmp_path / "best")
    assert saved is not None and len(list((tmp_path / "best").glob("0*"))) == 1
    assert (saved.state["score"], saved.timesteps) == (pytest.approx(best[0]), best[1])
    again = build(chosen)
    restore_agent(again.agent, saved)
    for name, tensor in again.network.state_dict().items():
        assert torch.equal(tensor, best[2][name])


def test_without_an_evaluator_training_scores_decide(tmp_path: Path) -> None:
    trainer = build(experiment([friend("BestPolicyKeeper")]), folder=tmp_path)
    early = trainer.train_iteration()
    assert early["episodes"] > 0 and math.isnan(trainer.friends.metrics()["BestPolicyKeeper/best"])
    trainer.episodes.recent.extend([5.0] * 100)
    means = [trainer.train_iteration()["episode_return_mean_100"] for _ in range(4)]
    (keeper,) = trainer.friends
    assert isinstance(keeper, BestPolicyKeeper)
    assert keeper.metrics() == {"best": pytest.approx(max(means))}
    assert not (tmp_path / "best").exists()
    trainer.friends.before_checkpoint()
    saved = load_latest(tmp_path / "best")
    assert saved is not None and saved.state["score"] == pytest.approx(max(means))


def test_several_ranks_write_it_once(tmp_path: Path) -> None:
    chosen = experiment([friend("BestPolicyKeeper"), friend("Evaluator", every=1, episodes=3)])

    def work(communicator: Any) -> float:
        trainer = build(chosen, communicator, tmp_path)
        for _ in range(3):
            trainer.train_iteration()
        trainer.friends.before_checkpoint()
        return next(f for f in trainer.friends if isinstance(f, Evaluator)).metrics()["best"]

    bests = run_threaded(2, work)
    saved = load_latest(tmp_path / "best")
    assert saved is not None and bests[0] == bests[1] == pytest.approx(saved.state["score"])


def test_the_best_is_written_once_for_each_time_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    save = checkpoint.save_checkpoint

    def spy(folder: Path, timesteps: int, *rest: Any, **more: Any) -> Path:
        written.append(timesteps)
        return save(folder, timesteps, *rest, **more)

    monkeypatch.setattr(best_policy, "save_checkpoint", spy)
    trainer = build(experiment([friend("BestPolicyKeeper")]), folder=tmp_path)
    (keeper,) = trainer.friends
    for score, done in ((1.0, 10), (2.0, 20), (1.5, 30)):
        keeper.before_update(Controls(1e-3, 0.2, 0.0, timesteps=done))
        keeper.after_update({"episode_return_mean_100": score, "episodes": 1.0, "episodes_in_mean": 100.0})
    assert written == []
    keeper.before_checkpoint()
    keeper.before_checkpoint()  # nothing new
    assert written == [20]
    saved = load_latest(tmp_path / "best")
    assert saved is not None and saved.state["score"] == 2.0


def test_a_best_that_found_no_room_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(experiment([friend("BestPolicyKeeper")]), folder=tmp_path)
    (keeper,) = trainer.friends
    keeper.before_update(Controls(1e-3, 0.2, 0.0, timesteps=10))
    keeper.after_update({"episode_return_mean_100": 1.0, "episodes": 1.0, "episodes_in_mean": 100.0})

    def full(*_: Any, **more: Any) -> Path:
        raise CheckpointError("No space left on device.")

    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="No space"):
        patched.setattr(best_policy, "save_checkpoint", full)
        keeper.before_checkpoint()
    keeper.before_checkpoint()
    saved = load_latest(tmp_path / "best")
    assert saved is not None and saved.timesteps == 10


def test_the_end_of_a_run_writes_the_best(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, "--with=BestPolicyKeeper", timesteps=6000)).status == 0
    folder = tmp_path / FOLDER
    with (folder / "progress.csv").open() as file:
        bests = [float(row["BestPolicyKeeper/best"] or "nan") for row in csv.DictReader(file)]
    assert math.isnan(bests[0])  # of fewer than 100 episodes
    saved = load_latest(folder / "best")
    assert saved is not None and saved.state["score"] == pytest.approx(bests[-1])


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Evaluator(every=0)
    with pytest.raises(UsageError, match="at least 1"):
        Evaluator(episodes=0)
