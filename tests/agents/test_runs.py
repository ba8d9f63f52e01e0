"""Whole runs of several agents that share a policy: layouts, learning, evaluation, loading, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppo_and_friends import load_policy
from ppo_and_friends.api.evaluation import evaluate
from ppo_and_friends.errors import UsageError
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import friend
from tests.agents.toys import MORTAL, Roles, squad
from tests.command_line import SMALL, latest, read_json, rows, run
from tests.engine import on_ranks, train
from tests.test_layout_independence import parameters
from tests.test_trained_policy import saved

FRIENDS = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=5.0),
    friend("AgentIndex"),
    friend("RewardNormalizer"),
    friend("AdvantageNormalizer"),
)
INDEX = friend("AgentIndex")


@pytest.mark.parametrize("critic", ["own", "all", "shuffled", "state"])
def test_the_same_on_any_number_of_ranks(critic: str) -> None:
    """5 environments are divided into 3 + 2 and 2 + 2 + 1: rows are counted by environment and agent."""
    settings = squad(
        *FRIENDS,
        num_envs=5,
        options={"lives": MORTAL, "length": 5},
        agents={"critic": "all", "shuffle": True} if critic == "shuffled" else {"critic": critic},
        precision="float64",
    )
    alone = parameters(settings, 1)
    for size in (2, 3):
        got = parameters(settings, size)
        for key, expected in alone.items():
            np.testing.assert_allclose(got[key], expected, atol=1e-9, rtol=1e-9, err_msg=key)


def test_only_what_agents_did_is_counted() -> None:
    def work(trainer: Trainer, _: Any) -> None:
        metrics = trainer.train_iteration()
        # 240 rows are 20 steps of 4 environments with 3 agents; an episode has 4 steps and a reset. The
        # second agent acts in 2 of them, the third in 3.
        assert trainer.collector.steps == 20
        assert trainer.timesteps == 4 * (4 * (4 + 2 + 3))
        assert metrics["episodes"] == 4 * 4 * 3
        assert metrics["info/episode_return/agent_1"] == 11 + 12
        assert metrics["info/episode_return/team"] == 10 + 23 + (22 + 23 + 24)

    on_ranks(squad(options={"lives": MORTAL}), 1, work)


def test_statistics_are_of_what_agents_acted_on() -> None:
    def work(trainer: Trainer, _: Any) -> None:
        trainer.train_iteration()
        mean = trainer.friends.members["ObservationNormalizer"].mean.numpy()
        # An episode's times are 0 to 3 for the first agent, 0 and 1 for the second, 1 to 3 for the third.
        np.testing.assert_allclose(mean[2], (0 + 1 + 2 + 3 + 0 + 1 + 1 + 2 + 3) / 9)
        np.testing.assert_allclose(mean[1], (0 * 4 + 1 * 2 + 2 * 3) / 9)

    on_ranks(squad(friend("ObservationNormalizer"), options={"lives": MORTAL}, precision="float64"), 1, work)


def learned(*friends: Any, iterations: int = 12, **settings: Any) -> float:
    """Mean return of the last episodes, 4 at most, where each agent must take the action of its number."""
    sizes: dict[str, Any] = {
        "learning_rate": 2e-2,
        "rollout_timesteps": 480,
        "minibatch_size": 120,
        "epochs": 4,
    }
    chosen = squad(*friends, make=Roles, **sizes, **settings)
    return float(train(chosen, iterations)[0][1][-1]["info/episode_return/team"]) / 3


def test_agents_that_know_their_number_learn_different_things() -> None:
    assert learned(INDEX) > 3.6
    assert learned(INDEX, agents={"critic": "all", "reward": "team"}) > 3.0
    # One action for all is right for one of three.
    assert learned() < 2.0


def test_the_critic_alone_sees_the_others(tmp_path: Path) -> None:
    saved(tmp_path, squad(INDEX, agents={"critic": "all"}, num_envs=2, rollout_timesteps=60), 1)
    agent = load_policy(tmp_path, trust=True).agent
    assert agent.space.shape == (4 + 3,) and agent.critic_space is not None
    assert agent.critic_space.shape == (3 * 4 + 3,)


def test_evaluation_plays_all_agents(tmp_path: Path) -> None:
    saved(tmp_path, squad(*FRIENDS, options={"lives": MORTAL}), 1)
    policy = load_policy(tmp_path, trust=True)
    result = evaluate(policy, 2, seed=5, video=tmp_path / "film.gif")
    # The agents' returns are 10, 23 and 69, whatever they do; the score is their mean.
    assert result.returns.tolist() == [34.0, 34.0] and result.lengths.tolist() == [4, 4]
    assert result.infos["episode_return/agent_2"] == 69 and result.infos["episode_return/team"] == 102
    assert (tmp_path / "film.gif").stat().st_size > 0
    with pytest.raises(UsageError, match="several agents with a trained policy only"):
        evaluate(lambda observation: 0, 1, environment=policy.experiment.environment)


def test_a_loaded_policy_takes_observations_by_agent(tmp_path: Path) -> None:
    saved(tmp_path, squad(*FRIENDS), 1)
    policy = load_policy(tmp_path, trust=True)
    assert policy.agents == ("agent_0", "agent_1", "agent_2")
    seen = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    batch = policy(seen)
    policy.reset()
    actions = policy({"agent_2": seen[2], "agent_0": seen[0], "agent_1": seen[1]})
    assert actions == {"agent_2": batch[2], "agent_0": batch[0], "agent_1": batch[1]}
    # One that is gone is left out, and the others are as before.
    assert policy({"agent_2": seen[2]}) == {"agent_2": batch[2]}
    with pytest.raises(UsageError, match="a single observation each"):
        policy({"agent_0": seen})
    with pytest.raises(UsageError, match="a row for each of the agents agent_0, agent_1, agent_2"):
        policy(seen[0])


def test_memory_begins_anew_where_an_agent_appears(tmp_path: Path) -> None:
    from dataclasses import replace

    chosen = squad(INDEX)
    saved(tmp_path, replace(chosen, network=replace(chosen.network, memory="gru", memory_width=8)), 1)
    policy = load_policy(tmp_path, trust=True)
    seen = {f"agent_{k}": np.full(4, k, np.float32) for k in range(3)}
    policy(seen)
    state = policy._policy._state.clone()
    policy({"agent_0": seen["agent_0"], "agent_2": seen["agent_2"]})
    policy(seen)  # agent_1 is there again: as at first
    assert np.allclose(policy._policy._state[1], state[1], atol=1e-6)
    assert not np.allclose(policy._policy._state[0], state[0], atol=1e-6)


def test_the_exported_policy_knows_the_agents(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from ppo_and_friends.policy.export import export_onnx

    saved(tmp_path, squad(*FRIENDS, make=Roles, learning_rate=2e-2), 6)
    policy = load_policy(tmp_path, trust=True)
    session = onnxruntime.InferenceSession(str(export_onnx(policy, tmp_path / "policy.onnx")))
    seen = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    name = session.get_inputs()[0].name
    assert session.run(None, {name: seen})[0].tolist() == policy(seen).tolist()


def test_from_the_command_line(tmp_path: Path) -> None:
    name = "tests.agents.toys:parallel_env"
    folder = "tests.agents.toys-parallel_env"
    command = ["-e", name, "--state_path", tmp_path, "--num_timesteps=200", *SMALL, "--with=AgentIndex"]
    assert run(*command).status == 0
    identity = latest(tmp_path, folder).state["identity"]
    assert identity["agents"] == ["agent_0", "agent_1", "agent_2"]
    last = rows(tmp_path, folder)[-1]
    assert float(last["info/episode_return/team"]) == 150.0
    done = run(*command, "--num_test_runs=2")
    assert done.status == 0 and "episode_return/team" in done.out
    assert read_json(tmp_path / folder / "test_scores.json")["mean"] == 50.0
    assert run(*command, "--num_timesteps=400").status == 0

    # Other agents than those saved are refused by name, in the training and in a test.
    others = """--set=environment.arguments.names=["agent_0","agent_1","rover"]"""
    for more in (["--num_timesteps=600"], ["--num_test_runs=1"]):
        refused = run(*command, others, *more)
        assert refused.status == 2 and len(refused.complaint) <= 3
        assert ("rover" in refused.err and "agent_2" in refused.err) or "arguments" in refused.err


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    for name in ("tests.agents.toys.nothing", "tests.nowhere"):
        done = run("-e", name, "--state_path", tmp_path)
        assert done.status == 2 and "unknown environment" in done.err
