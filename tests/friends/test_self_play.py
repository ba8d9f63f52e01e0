"""Games against past versions of the policy: who acts, who learns, ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.distributed.replication import assert_replicated
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.opponent_pool import OpponentPool
from ppo_and_friends.friends.self_play import SelfPlay
from ppo_and_friends.runs.checkpoint import load_latest, save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from tests.agents.nim import nim
from tests.engine import Episodes, experiment, on_ranks, train


def of(trainer: Any) -> SelfPlay:
    return next(each for each in trainer.friends if isinstance(each, SelfPlay))


def state(trainer: Any) -> dict[str, Any]:
    named = trainer.agent.tensors() | trainer.optimizer.state()
    return {name: tensor.detach().numpy().copy() for name, tensor in named.items()}


@pytest.mark.parametrize(("opponent", "memory"), [("uniform", None), ("win_rate", "gru")])
def test_ranks_agree_and_their_number_does_not_matter(opponent: str, memory: Any) -> None:
    network = NetworkSettings(actor_hidden=(8,), critic_hidden=(8,), memory=memory, memory_width=4)
    settings = nim(
        friend("SelfPlay", save_steps=40, window=2, opponent=opponent), num_envs=5, network=network
    )

    def work(trainer: Any, communicator: Any) -> Any:
        for _ in range(3):
            metrics = trainer.train_iteration()
        assert_replicated(communicator, state(trainer))
        return state(trainer), metrics

    expected, numbers = on_ranks(settings, 1, work)[0]
    assert numbers["SelfPlay/snapshots"] >= 3 and numbers["SelfPlay/games"] > 0
    assert numbers["SelfPlay/elo"] != 1200.0
    found, metrics = on_ranks(settings, 3, work)[0]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-9, rtol=1e-9, err_msg=name)
    assert metrics["SelfPlay/games"] == numbers["SelfPlay/games"]


def test_snapshots_act_for_the_others_and_nothing_is_learned_from_them() -> None:
    """The only snapshot takes one each time; the policy, before its update, takes whatever it likes."""

    def work(trainer: Any, _: Any) -> Any:
        own = of(trainer)
        own.pool.add(trainer.network, 0)
        head = [p for n, p in own.pool.networks[0].named_parameters() if n.startswith("policy_head")]
        with torch.no_grad():
            for each in head:
                each.zero_()
            head[-1][0] = 50.0
        rollout = trainer.collect()
        played, theirs = rollout.played.numpy(), own._theirs.reshape(len(own._theirs), -1)
        assert not (rollout.active.numpy() & theirs).any() and not (rollout.finished.numpy() & theirs).any()
        assert not (played & theirs).any()
        return rollout.actions.numpy()[..., 0], theirs, own._seats.copy()

    settings = nim(friend("SelfPlay", play_against_latest_model_ratio=0.0), num_envs=8)
    ((actions, theirs, seats),) = on_ranks(settings, 1, work)
    assert 0.4 < theirs.mean() < 0.6  # one of two agents, in every game
    assert (actions[theirs] == 0).all() and not (actions[~theirs] == 0).all()
    assert set(seats) == {0, 1}


def test_a_policy_that_plays_well_is_rated_above_its_past() -> None:
    """Nim with seven is won by who begins, and by whoever knows that against one who doesn't."""
    settings = nim(
        friend("SelfPlay", save_steps=2_000, window=2),
        friend("AdvantageNormalizer"),
        num_envs=16,
        rollout_timesteps=2 * 16 * 24,
        minibatch_size=256,
        epochs=6,
        num_timesteps=20_000,
        learning_rate=0.02,
    )
    ((trainer, metrics),) = train(settings, 8)
    assert metrics[-1]["SelfPlay/elo"] > 1220.0
    seen = np.eye(8)[[7, 6, 5, 3, 2, 1]]
    mask = np.array([[True] * 3] * 4 + [[True, True, False], [True, False, False]])
    actions = trainer.agent.policy().act({"policy": seen, "action_mask": mask}, True)
    assert actions.tolist() == [2, 1, 0, 2, 1, 0]  # leave four, or nothing


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    settings = nim(friend("SelfPlay", save_steps=60, window=3, opponent="win_rate"), friend("HardReset"))

    def whole(trainer: Any, _: Any) -> Any:
        for iteration in range(5):
            metrics = trainer.train_iteration()
            if iteration == 2:
                save_checkpoint(tmp_path, trainer.timesteps, *capture(trainer, 1.0))
        return state(trainer), metrics

    def resumed(trainer: Any, _: Any) -> Any:
        saved = load_latest(tmp_path)
        assert saved is not None and restore_trainer(trainer, saved) == []
        for _ in range(2):
            metrics = trainer.train_iteration()
        return state(trainer), metrics

    ((expected, numbers),) = on_ranks(settings, 1, whole)
    ((found, metrics),) = on_ranks(settings, 1, resumed)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for name in (name for name in numbers if name.startswith("SelfPlay")):
        np.testing.assert_equal(metrics[name], numbers[name], err_msg=name)


def pool(window: int = 3) -> OpponentPool:
    made = OpponentPool(window, 1200.0, lambda _, value: torch.as_tensor(value, dtype=torch.float64))
    made.allocate(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    return made


def test_the_oldest_snapshot_is_replaced() -> None:
    made = pool()
    for number in range(1, 6):
        made.add(torch.nn.Linear(1, 1), 10 * number)  # type: ignore[arg-type]
    assert made.timesteps.tolist() == [40, 50, 30] and made.latest == 1
    assert [made.number(slot) for slot in range(3)] == [4, 5, 3]


def test_ratings_by_hand() -> None:
    made = pool()
    made.add(torch.nn.Linear(1, 1), 0)  # type: ignore[arg-type]
    made.take(0, 1.0)  # equals: half was expected, 4 points a game
    assert made.rating.item() == 1202.0 and made.elo[0].item() == 1198.0
    assert made.win_rates[0].item() == pytest.approx(0.5 + 0.02 * 0.5)
    expected = 1 / (1 + 10 ** (-4 / 400))
    made.take(0, 0.0)
    assert made.rating.item() == pytest.approx(1202.0 - 4 * expected)


def test_those_that_win_are_chosen_more_often() -> None:
    made = pool()
    for _ in range(3):
        made.add(torch.nn.Linear(1, 1), 0)  # type: ignore[arg-type]
    made.win_rates[:] = torch.tensor([0.0, 0.5, 1.0])
    random = np.random.default_rng(0)
    counts = np.bincount([made.choose("win_rate", random) for _ in range(1000)], minlength=3)
    assert counts[0] > 3 * counts[1] > 30 * counts[2]  # 1 : 1/4 : nearly 0
    assert {made.choose("uniform", random) for _ in range(50)} == {0, 1, 2}
    assert {made.choose("latest", random) for _ in range(9)} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_steps": 0}, "save_steps and window must be at least 1"),
        ({"play_against_latest_model_ratio": 1.5}, r"must be in \[0, 1\]"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SelfPlay(**arguments)


def test_a_single_agent_has_no_opponent() -> None:
    with pytest.raises(UsageError, match="several agents that share a policy"):
        train(experiment(Episodes, (friend("SelfPlay"),)), 1)
