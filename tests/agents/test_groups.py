"""Runs whose agents decide together: layouts, resuming, evaluation, loading, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends import load_policy
from ppo_and_friends.api.evaluation import evaluate
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, find_friend
from ppo_and_friends.networks.model import PRESENT, Model
from ppo_and_friends.policy.export import export_onnx
from ppo_and_friends.ppo.minibatches import MinibatchSource, slice_bounds
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import NetworkSettings
from tests.agents import test_friends, test_policies
from tests.agents.nim import nim
from tests.agents.test_runs import FRIENDS
from tests.agents.toys import MORTAL, Forbidding, Roles, Squad, squad
from tests.command_line import SMALL, run
from tests.engine import on_ranks, trained
from tests.engine import train as train_on
from tests.test_deterministic_shards import learned as learned_on_shards
from tests.test_exact_resume import check
from tests.test_layout_independence import parameters
from tests.test_trained_policy import saved

TOGETHER = NetworkSettings(model="MultiAgentTransformer", attention_width=8)


class Pushes(Squad):
    """Actions are numbers."""

    def action_space(self, agent: str) -> Any:
        return spaces.Box(-2.0, 2.0, (2,), np.float32)

    def step(self, actions: Any) -> Any:
        assert all(self.action_space(agent).contains(action) for agent, action in actions.items())
        return super().step({agent: action.sum() for agent, action in actions.items()})


KINDS: dict[str, dict[str, Any]] = {
    "choices": {"options": {"lives": MORTAL, "length": 5}},
    "numbers": {"make": Pushes, "options": {"lives": MORTAL, "length": 5}},
    "masks": {"make": Forbidding, "options": {"lives": MORTAL}},
    "chunks": {"options": {"lives": MORTAL, "length": 5}, "sequence_length": 2},
    "chosen by the team": {"agents": {"reward": "team"}},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_the_same_on_any_number_of_ranks(kind: str) -> None:
    settings = squad(*FRIENDS, num_envs=5, network=TOGETHER, precision="float64", **KINDS[kind])
    alone = parameters(settings, 1)
    for size in (2, 3):
        got = parameters(settings, size)
        for key, expected in alone.items():
            np.testing.assert_allclose(got[key], expected, atol=1e-9, rtol=1e-9, err_msg=key)


class Means(Model):
    """A model of a user's own: each agent also sees the mean of what all see."""

    groups_agents = True

    def __init__(self, observation_space: spaces.Box, *given: Any, agents: int) -> None:
        super().__init__(observation_space, *given)
        self.group_size = agents
        outputs = self.distribution.parameter_size + len(self.streams)
        self.layer = torch.nn.Linear(2 * observation_space.shape[0], outputs)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        groups = observations.unflatten(0, (-1, self.group_size))
        seen = torch.cat((groups, groups.mean(1, keepdim=True).expand_as(groups)), dim=-1).flatten(0, 1)
        outputs = self.layer(seen)
        return outputs[:, : self.distribution.parameter_size], outputs[:, self.distribution.parameter_size :]


def test_a_model_of_ones_own_is_the_same_on_any_number_of_ranks() -> None:
    network = NetworkSettings(model=f"{__name__}:Means")
    settings = squad(*FRIENDS, num_envs=5, network=network, precision="float64", **KINDS["choices"])
    alone, got = parameters(settings, 1), parameters(settings, 3)
    for key, expected in alone.items():
        np.testing.assert_allclose(got[key], expected, atol=1e-9, rtol=1e-9, err_msg=key)


def test_the_same_bits_with_deterministic_shards() -> None:
    settings = squad(*FRIENDS, network=TOGETHER, **KINDS["choices"])
    assert learned_on_shards(settings, 1) == learned_on_shards(settings, 3)


@every_kind
def test_resumed_exactly(kind: str, tmp_path: Path) -> None:
    """240 rows are 20 steps of 4 environments with 3 agents: no whole number of episodes of 5 steps."""
    check(squad(*FRIENDS, network=TOGETHER, **KINDS[kind]), tmp_path)


@every_kind
def test_minibatches_are_of_whole_groups_and_begin_where_the_rollout_was(kind: str) -> None:
    def work(trainer: Trainer, _: Any) -> None:
        rollout = trainer.collect()
        trainer.estimate(rollout)
        chunks = trainer.collector.steps // rollout.sequence_length
        order = trainer.randomness.shuffles(1, 0, Layout(4, 0, 4), chunks).repeat(3, axis=1)
        bounds, seen = slice_bounds(chunks, 2), []
        for minibatch in MinibatchSource(rollout, 3).epoch(order, bounds, np.ones(2)):
            places = minibatch.samples.view(-1, 3)
            assert (places % 3 == torch.arange(3)).all() and (places // 3 == places[:, :1] // 3).all()
            seen.append(minibatch.samples)
            minibatch.evaluate(trainer.network)
            torch.testing.assert_close(minibatch.policy_parameters, minibatch.old_policy_parameters)
            torch.testing.assert_close(minibatch.value_outputs, minibatch.old_value_outputs)
            log_probs = trainer.distribution.log_prob(minibatch.policy_parameters, minibatch.actions)
            torch.testing.assert_close(log_probs, minibatch.old_log_probs)
        assert sorted(torch.cat(seen).tolist()) == list(range(20 * 12))

    on_ranks(squad(network=TOGETHER, precision="float64", **KINDS[kind]), 1, work)


def test_who_is_there() -> None:
    """The second dies with step 2, the third comes with step 1; all are seen where their episode is cut."""

    def work(trainer: Trainer, _: Any) -> None:
        rollout = trainer.collect()
        there = rollout.observations[PRESENT][:6, :3, 0].int().tolist()
        assert there == [[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 0]]
        assert rollout.truncated[3, :3].tolist() == [True, False, True]

    on_ranks(squad(network=TOGETHER, options={"lives": MORTAL}), 1, work)


def test_those_who_wait_for_their_turn_are_not_looked_at() -> None:
    """What they would do isn't done."""

    def work(trainer: Trainer, _: Any) -> None:
        rollout = trainer.collect()
        turns = rollout.observations[PRESENT][:-1, :, 0]
        assert rollout.waiting is not None
        assert not (turns & rollout.waiting).any()
        assert (turns | rollout.waiting)[rollout.played].all()
        games = turns.view(len(turns), -1, 2).sum(-1)[rollout.played.view(len(turns), -1, 2).all(-1)]
        assert games.unique().tolist() == [1]

    on_ranks(replace(nim(), network=TOGETHER), 1, work)


class Alone(Means):
    """Forgets to say how many belong together."""

    def __init__(self, *given: Any, agents: int) -> None:
        super().__init__(*given, agents=agents)
        self.group_size = 1


def test_a_model_that_takes_agents_together_says_how_many() -> None:
    with pytest.raises(UsageError, match="its group_size must be how many share it, 3, not 1"):
        on_ranks(squad(network=NetworkSettings(model=f"{__name__}:Alone")), 1, trained)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_another_number_of_agents_is_refused(count: int, tmp_path: Path) -> None:
    saved(tmp_path, squad(network=TOGETHER), 1)
    other = squad(options={"lives": ((0, 9),) * count}).environment
    with pytest.raises(UsageError, match=f"has {count} agents .* trained for 3 that decide together"):
        evaluate(load_policy(tmp_path, trust=True), 1, environment=other)


def test_without_their_number_agents_learn_different_things() -> None:
    """Who acts alike with one network and no number, as in test_runs.py, knows here what others did."""
    chosen = squad(
        make=Roles,
        network=replace(TOGETHER, attention_width=16),
        rollout_timesteps=480,
        minibatch_size=120,
        epochs=4,
        learning_rate=5e-3,
    )
    metrics = train_on(chosen, 20)[0][1]
    assert float(metrics[-1]["info/episode_return/team"]) / 3 > 3.0


@pytest.mark.parametrize("kind", ["choices", "numbers", "masks"])
def test_a_saved_policy_acts_as_in_evaluation(kind: str, tmp_path: Path) -> None:
    saved(tmp_path, squad(*FRIENDS, network=TOGETHER, **KINDS[kind]), 2)
    policy = load_policy(tmp_path, trust=True)
    result = evaluate(policy, 2, seed=5)
    assert result.returns.tolist() == evaluate(policy, 2, seed=5, deterministic=False).returns.tolist()
    env: Any = KINDS[kind].get("make", Squad)(**KINDS[kind]["options"])
    observations, _ = env.reset(seed=1)
    policy.reset(seed=3)
    while env.agents:
        actions = policy(observations, deterministic=False)
        assert list(actions) == list(observations)
        observations, *_ = env.step(actions)
        observations = {agent: observations[agent] for agent in env.agents}


def test_rows_of_a_batch_are_whole_groups(tmp_path: Path) -> None:
    saved(tmp_path, squad(*FRIENDS, network=TOGETHER), 2)
    policy = load_policy(tmp_path, trust=True)
    seen = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    batch = policy(seen)
    policy.reset()
    named = {f"agent_{k}": seen[3 + k] for k in range(3)}
    assert list(policy(named).values()) == batch[3:].tolist()
    for wrong in (seen[0], seen[:4]):
        policy.reset()
        with pytest.raises(UsageError, match="agent_0, agent_1, agent_2 decide together: call the policy"):
            policy(wrong)
    with pytest.raises(UsageError, match="MultiAgentTransformer, whose agents decide together, can't be exp"):
        export_onnx(policy, tmp_path / "policy.onnx")
    with pytest.raises(UsageError, match="Agents that decide together can't play against each other"):
        evaluate(policy, 1, opponent="random")


def test_those_who_are_gone_do_not_matter(tmp_path: Path) -> None:
    saved(tmp_path, squad(network=replace(TOGETHER, actor_output_gain=1.0)), 1)
    policy = load_policy(tmp_path, trust=True)
    seen = np.random.default_rng(0).normal(size=(20, 3, 4)).astype(np.float32)
    for one, other in zip(seen, seen[::-1], strict=True):
        policy.reset()
        policy({"agent_1": other[1]})  # whose last observation stays
        alone = policy({"agent_0": one[0], "agent_2": one[2]})
        policy.reset()
        assert policy({"agent_0": one[0], "agent_2": one[2]}) == alone


REFUSED = {
    "SymmetryAugmentation": "SymmetryAugmentation can't work with MultiAgentTransformer",
    "SelfPlay": "SelfPlay can't work with MultiAgentTransformer",
    "SplitObservations": "SplitObservations",  # these change the usual network
    "PopArt": "PopArt",
}


@pytest.mark.parametrize("name", [*BUILT_IN, *OF_AGENTS])
def test_every_friend_works_or_is_refused_by_name(name: str) -> None:
    chosen = test_friends.settings(name)
    chosen = replace(chosen, network=TOGETHER, agents=replace(chosen.agents, critic="own"))
    refused = test_friends.REFUSED | REFUSED
    if name in refused:
        with pytest.raises(UsageError, match=refused[name]):
            on_ranks(chosen, 1, partial(trained, iterations=1))
        return
    assert find_friend(name).works_with_groups
    found = [on_ranks(chosen, size, partial(trained, iterations=2))[0] for size in (1, 2)]
    expected = found[0][0].agent.tensors()
    for key, value in found[1][0].agent.tensors().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9, msg=key, equal_nan=True)


@pytest.mark.parametrize("size", [1, 2])
def test_a_policy_of_several(size: int, tmp_path: Path) -> None:
    """The scout decides alone, the team of two together."""
    chosen = test_policies.settings({"settings": {"team": {"network.model": "MultiAgentTransformer"}}})
    folder = test_policies.done(tmp_path / str(size), chosen, size)
    if size == 1:
        assert evaluate(load_policy(folder, trust=True), 2).lengths.tolist() == [4, 4]
        return
    alone = test_policies.done(tmp_path / "1", chosen)
    for name, expected in test_policies.tensors(alone, "team").items():
        got = test_policies.tensors(folder, "team")[name]
        np.testing.assert_allclose(got, expected, atol=1e-9, rtol=1e-9, err_msg=name)


def test_plain_kernels_learn_the_same() -> None:
    found = []
    for kernels in ("fast", "plain"):
        chosen = squad(*FRIENDS, network=TOGETHER, precision="float64", **KINDS["choices"])
        chosen = replace(chosen, kernels=kernels)
        found.append(on_ranks(chosen, 1, partial(trained, iterations=2))[0][0].agent.tensors())
    for key, expected in found[0].items():
        torch.testing.assert_close(found[1][key], expected, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ("CartPole", (), "'MultiAgentTransformer' is for environments with several agents"),
        (
            "tests.agents.toys:parallel_env",
            ("--set=agents.critic=all",),
            "'MultiAgentTransformer' doesn't read what the critic alone sees: leave out",
        ),
        ("tests.agents.toys:parallel_env", ("--set=network.memory=gru",), "has no memory"),
        ("tests.agents.toys:parallel_env", ("--with=SelfPlay",), "SelfPlay can't work with"),
        (
            "tests.agents.toys:parallel_env",
            ("--with=Evaluator:every=128,episodes=1,opponent=random",),
            "agents that decide together can't play against an opponent",
        ),
    ],
)
def test_refused_in_a_line(environment: str, options: Any, said: str, tmp_path: Path) -> None:
    model = "--set=network.model=MultiAgentTransformer"
    done = run("-e", environment, *SMALL, model, *options, "--state_path", tmp_path)
    assert done.status == 2 and said in done.err and len(done.complaint) <= 2


def test_trained_and_tested_from_the_command_line(tmp_path: Path) -> None:
    command = ("-e", "tests.agents.toys:parallel_env", "--state_path", tmp_path)
    model = ("--set=network.model=MultiAgentTransformer", "--set=network.attention_width=8")
    trained_ = run(*command, *SMALL, *model, "--num_timesteps=300", "--eval_every=128", "--eval_episodes=1")
    assert trained_.status == 0, trained_.err
    tested = run(*command, "--num_test_runs=2")
    assert tested.status == 0 and "agent_2" in tested.out
