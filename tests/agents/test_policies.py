"""Several policies in one run: each with its own network, learning together, frozen, or in turns."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends import evaluate, load_policy
from ppo_and_friends.api.run import Run
from ppo_and_friends.api.training import train
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.reporting.page import write_report
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.runs.checkpoint import load_latest
from ppo_and_friends.settings.experiment import AgentSettings, Experiment, FriendSpec, friend
from tests.agents.toys import MORTAL, squad
from tests.command_line import SMALL, run

SPLIT = {"agent_0": "scout", "*": "team"}
NORMALIZER = friend("ObservationNormalizer")


def settings(agents: dict[str, Any] | None = None, **changes: Any) -> Experiment:
    """240 rows are 20 steps of 4 environments with 3 agents."""
    options = {"lives": MORTAL}
    chosen = squad(
        NORMALIZER, agents={"policies": SPLIT} | (agents or {}), options=options, precision="float64"
    )
    return replace(chosen, **{"num_timesteps": 432, "checkpoint_seconds": 0.0} | changes)


def tensors(folder: Path, policy: str) -> dict[str, Any]:
    checkpoint = load_latest(folder / "policies" / policy / "checkpoints")
    assert checkpoint is not None
    return {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}


def done(folder: Path, chosen: Experiment, size: int = 1) -> Path:
    """The folder of a run of three iterations, on some ranks."""

    def rank(communicator: Communicator) -> None:
        train(chosen, folder, communicator=communicator, tensorboard=False, verbosity=-1)

    run_threaded(size, rank)
    return folder


def test_each_has_its_own(tmp_path: Path) -> None:
    done(tmp_path, settings())
    scout, team = (load_latest(tmp_path / "policies" / name / "checkpoints") for name in ("scout", "team"))
    assert scout is not None and team is not None
    assert scout.state["identity"]["agents"] == ["agent_0"]
    assert team.state["identity"]["agents"] == ["agent_1", "agent_2"]
    # An episode of 4 steps and a reset: in 20 steps of 4 environments 16 x 4 for the scout, 16 x 5 for
    # the others.
    # The scout's share of 432 timesteps is 144, which it has after three iterations of 64.
    assert (scout.state["iteration"], scout.timesteps) == (3, 3 * 64)
    assert (team.state["iteration"], team.timesteps) == (3, 3 * 80)
    assert not np.allclose(scout.tensors["network.actor.0.weight"], team.tensors["network.actor.0.weight"])
    rows = (tmp_path / "policies" / "team" / "progress.csv").read_text().splitlines()
    assert len(rows) == 4 and "info/episode_return/agent_2" in rows[0]


@pytest.mark.parametrize("size", [2, 3])
def test_the_same_on_any_number_of_ranks(size: int, tmp_path: Path) -> None:
    alone, ranks = done(tmp_path / "1", settings()), done(tmp_path / "n", settings(), size)
    for policy in ("scout", "team"):
        got = tensors(ranks, policy)
        for name, expected in tensors(alone, policy).items():
            np.testing.assert_allclose(got[name], expected, atol=1e-9, rtol=1e-9, err_msg=name)


def test_resumed_is_as_if_never_stopped(tmp_path: Path) -> None:
    always = replace(settings(), friends=(*settings().friends, friend("HardReset")))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done(whole, always)
    done(parts, replace(always, num_timesteps=144))  # one iteration
    # As if it was killed between the two checkpoints of the second one: both go on from the first.
    done(parts, replace(always, num_timesteps=300))
    latest = max((parts / "policies" / "team" / "checkpoints").glob("0*"))
    for file in latest.iterdir():
        file.unlink()
    latest.rmdir()
    done(parts, always)
    for policy in ("scout", "team"):
        got = tensors(parts, policy)
        for name, expected in tensors(whole, policy).items():
            np.testing.assert_array_equal(got[name], expected, err_msg=name)


def test_a_frozen_policy_acts_and_stays_what_it_is(tmp_path: Path) -> None:
    done(tmp_path / "one", settings({"frozen": ("scout",)}, num_timesteps=144))
    done(tmp_path / "three", settings({"frozen": ("scout",)}))
    one, three = (tensors(tmp_path / name, "scout") for name in ("one", "three"))
    assert all(np.array_equal(one[name], three[name]) for name in one)
    one, three = (tensors(tmp_path / name, "team") for name in ("one", "three"))
    assert not np.array_equal(one["network.actor.0.weight"], three["network.actor.0.weight"])


def test_a_policy_that_waits_for_its_turn_still_tells_its_timesteps(tmp_path: Path) -> None:
    done(tmp_path, settings({"turns": 2}))  # one of the two waits in the last iteration
    for name in ("scout", "team"):
        checkpoint = load_latest(tmp_path / "policies" / name / "checkpoints")
        assert checkpoint is not None
        assert checkpoint.state["latest"]["timesteps"] == checkpoint.timesteps


def test_policies_learn_in_turns() -> None:
    agents = AgentSettings(policies=SPLIT, turns=2)
    names = ("scout", "team")
    learning = [[name for name in names if agents.learns(name, names, i)] for i in range(1, 7)]
    assert learning == [["scout"], ["scout"], ["team"], ["team"], ["scout"], ["scout"]]
    agents = replace(agents, frozen=("team",))
    assert all(agents.learns("scout", names, i) and not agents.learns("team", names, i) for i in range(1, 7))


def test_settings_of_one_policy(tmp_path: Path) -> None:
    own = {"team": {"network.actor_hidden": [8], "ppo.learning_rate": 0.0}}
    done(tmp_path, settings({"settings": own}, num_timesteps=144))
    assert tensors(tmp_path, "team")["network.actor.0.weight"].shape == (8, 4)
    assert tensors(tmp_path, "scout")["network.actor.0.weight"].shape == (16, 4)


def test_loading_and_evaluating(tmp_path: Path) -> None:
    done(tmp_path, settings())
    policies: Any = load_policy(tmp_path, trust=True)
    assert sorted(policies) == ["scout", "team"] and policies.timesteps == 3 * (64 + 80)
    seen = {f"agent_{k}": np.full(4, k, np.float32) for k in (0, 2)}
    actions = policies(seen)
    assert list(actions) == ["agent_0", "agent_2"]
    team = policies["team"]
    team.reset()
    assert team({"agent_2": seen["agent_2"]}) == {"agent_2": actions["agent_2"]}
    with pytest.raises(UsageError, match="no policy for agent 'agent_7'"):
        policies({"agent_7": seen["agent_0"]})
    result = evaluate(policies, 2)
    assert result.returns.tolist() == [34.0, 34.0]  # the mean of 10, 23 and 69


def test_a_policy_whose_agents_were_all_gone_remembers_nothing(tmp_path: Path) -> None:
    chosen = settings(num_timesteps=144)
    done(tmp_path, replace(chosen, friends=(), network=replace(chosen.network, memory="gru")))
    policies: Any = load_policy(tmp_path, trust=True)
    scout, other = {"agent_0": np.full(4, 1.0, np.float32)}, {"agent_2": np.zeros(4, np.float32)}
    states = []
    for seen in (scout, scout, other, scout):
        policies(seen)
        states.append(policies["scout"]._policy._state.clone())
    assert not torch.equal(states[0], states[1]) and torch.equal(states[0], states[3])


def test_agents_of_different_spaces(tmp_path: Path) -> None:
    chosen = settings(num_timesteps=144)
    options = {"lives": MORTAL, "sizes": (5, 4, 4)}
    done(tmp_path, replace(chosen, environment=replace(chosen.environment, arguments=options)))
    assert tensors(tmp_path, "scout")["network.actor.0.weight"].shape == (16, 5)


REFUSED = {
    "no policy for one": ({"agent_0": "scout", "agent_1": "team"}, {}, "no pattern fits agent_2"),
    "nobody": ({"agent_9": "scout", "*": "team"}, {}, "'agent_9' (for scout) names no agent"),
    "frozen": (SPLIT, {"frozen": ("spy",)}, "agents.frozen: there is no policy 'spy'"),
    "settings": (SPLIT, {"settings": {"spy": {}}}, "agents.settings: there is no policy 'spy'"),
    "whole run": (
        SPLIT,
        {"settings": {"team": {"environment.num_envs": 2}}},
        "environment.num_envs (of team)",
    ),
    "rollouts": (
        SPLIT,
        {"settings": {"team": {"ppo.rollout_timesteps": 9}}},
        "can't differ between policies",
    ),
    "folder": ({"agent_0": "../up", "*": "team"}, {}, "policy name '../up': use letters"),
}


@pytest.mark.parametrize(
    "setting", [{"frozen": ("policy",)}, {"turns": 2}, {"settings": {"policy": {"ppo.epochs": 1}}}]
)
def test_what_needs_several_policies(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"agents.{next(iter(setting))} is for several policies"):
        AgentSettings(**setting).policy_of(("agent_0", "agent_1"))


def test_sums_over_episodes_begin_anew_after_a_pause(tmp_path: Path) -> None:
    """A friend that missed a rollout doesn't go on with what it knew of each row's episode before."""
    restarted: list[tuple[int, bool]] = []

    class Watcher(Friend):
        def after_rollout(self, rollout: Rollout) -> None:
            if len(self.context.agents) == 1:  # the scout's
                restarted.append((rollout.iteration, rollout.restarted))

    chosen = settings({"turns": 2}, num_timesteps=6 * 64 * 3)
    done(tmp_path, replace(chosen, friends=(FriendSpec("Watcher", kind=Watcher),)))
    # It learns in iterations 1 and 2, and again in 5 and 6.
    assert restarted == [(1, True), (2, False), (5, True), (6, False)]


@pytest.mark.parametrize("case", REFUSED)
def test_mappings_that_make_no_sense(case: str, tmp_path: Path) -> None:
    policies, more, message = REFUSED[case]
    with pytest.raises(UsageError) as raised:
        done(tmp_path, settings({"policies": policies} | more))
    assert message in str(raised.value)


def test_what_needs_whole_environments(tmp_path: Path) -> None:
    chosen = settings()
    with pytest.raises(UsageError, match="Curriculum can't be used with several policies"):
        done(tmp_path, replace(chosen, friends=(friend("Curriculum", attributes={"length": "4,5@80"}),)))


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize("saved", [True, False])
def test_the_policies_of_a_run_with_and_without_a_folder(saved: bool, shards: int, tmp_path: Path) -> None:
    """Both train the same policies; `Run` has all of them, in the order of the environment's agents."""
    chosen = settings({"policies": {"agent_[12]": "team", "agent_0": "scout"}}, deterministic_shards=shards)
    done(tmp_path / "reference", chosen)
    trained = train(chosen, tmp_path / "run" if saved else None, tensorboard=False, verbosity=-1)
    if not saved:
        assert len(list(trained.iterations())) == 3 and not (tmp_path / "run").exists()
    policies: Any = trained.policy()
    assert sorted(policies) == ["scout", "team"]
    for name in policies:
        wanted = tensors(tmp_path / "reference", name)
        found = {key: tensor.numpy() for key, tensor in policies[name].agent.tensors().items()}
        assert all(np.array_equal(found[key], wanted[key]) for key in found) and found
    assert trained.timesteps == policies.timesteps == sum(policies[name].timesteps for name in policies)
    _, rows = read_rows(tmp_path / "reference" / "policies" / "scout" / "progress.csv")
    assert list(trained.metrics["kl"]) == pytest.approx([float(row["kl"]) for row in rows], rel=1e-9)
    assert len(rows) == 3
    if saved:
        again = train(chosen, tmp_path / "run", verbosity=-1)
        assert again.timesteps == trained.timesteps
        assert list(again.policy()) == list(policies) == ["scout", "team"]  # type: ignore[call-overload]


def test_a_mistake_deletes_nothing(tmp_path: Path) -> None:
    done(tmp_path, settings())
    wrong = replace(settings(), friends=(FriendSpec("NoSuch"),))
    with pytest.raises(UsageError, match="NoSuch"):
        train(wrong, tmp_path, clobber=True, verbosity=-1)
    with pytest.raises(UsageError, match=r"no\.such"):
        train(settings(), tmp_path, clobber=True, reporters=("no.such:Reporter",), verbosity=-1)
    assert len(tensors(tmp_path, "scout")) == len(tensors(tmp_path, "team")) > 0


def test_the_order_of_saved_policies_with_another_seed_and_without_one_of_them(tmp_path: Path) -> None:
    chosen = settings({"policies": {"agent_[12]": "team", "agent_0": "scout"}})
    done(tmp_path, chosen)
    other = Run(replace(chosen, random_seed=chosen.random_seed + 1), tmp_path, accept_changes=True)
    assert list(other.policy()) == ["scout", "team"]  # type: ignore[call-overload]
    shutil.rmtree(tmp_path / "policies" / "scout")
    with pytest.raises(CheckpointError, match=r"scout has no checkpoint, but other"):
        Run(chosen, tmp_path).policy()


def test_evaluations_play_all_policies_and_count_their_own_agents(tmp_path: Path) -> None:
    """Rewards don't depend on actions: agent k gets 10 k + t in step t.

    Agent 0 acts in steps 1 to 4: 10. Agent 1 in the first two: 20 + 1 + 2. Agent 2 from the second on: 60 +
    2 + 3 + 4. The team's two have 46 in the mean.
    """
    watching = (friend("Evaluator", every=100, episodes=2), friend("BestPolicyKeeper"))
    film = friend("VideoRecorder", every=150)
    done(tmp_path, replace(settings(), friends=(NORMALIZER, *watching, film)), 2)
    for name, score in (("scout", 10.0), ("team", 46.0)):
        place = tmp_path / "policies" / name
        _, rows = read_rows(place / "progress.csv")
        assert {float(row["Evaluator/score"]) for row in rows if row["Evaluator/score"]} == {score}
        assert load_policy(place / "best", trust=True).timesteps > 0
        assert (place / "videos").is_dir() == (name == "scout")
    best = load_policy(tmp_path / "best", trust=True)
    assert set(best) == {"scout", "team"}  # type: ignore[call-overload]
    assert evaluate(best, 1).mean == pytest.approx((10 + 23 + 69) / 3)
    page = write_report(tmp_path).read_text()
    assert "scout: last evaluation during training" in page and "team: episode return, last 100" in page


def test_from_the_command_line(tmp_path: Path) -> None:
    split = """--set=agents.policies={"agent_0": "scout", "*": "team"}"""
    command = [
        "-e",
        "tests.agents.toys:parallel_env",
        "--state_path",
        tmp_path,
        "--num_timesteps=300",
        *SMALL,
        split,
    ]
    assert run(*command).status == 0
    assert "already trained" in run(*command).out
    tested = run(*command, "--num_test_runs=2")
    assert tested.status == 0 and "episode_return/agent_2" in tested.out, tested.err
    folder = tmp_path / "tests.agents.toys-parallel_env"
    exported = run(*command, "--export=onnx")
    assert exported.status == 2 and f"Name one of them: {folder / 'policies' / 'scout'}" in exported.err
    assert (
        run("--plot", folder).status == 0 and (folder / "policies" / "plot_episode_return_mean.png").exists()
    )
    other = [word.replace("agent_0", "agent_1") if word is split else word for word in command]
    sizes = "--set=environment.arguments.sizes=[5,4,4]"
    assert run(*command, sizes, "--run_name=sizes").status == 0
    alone = run(*(word for word in command if word is not split), sizes, "--run_name=alone")
    assert alone.status == 2 and "agent_0 and agent_1 have different observation spaces" in alone.err
    refused = run(*other, "--num_timesteps=600")
    assert refused.status == 2 and "agents" in refused.err and len(refused.complaint) <= 2


torch.set_num_threads(1)
