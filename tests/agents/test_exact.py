"""Exact resumption with several agents: their environments, their rows, and policies of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ppo_and_friends.runs.checkpoint import load_latest, read_environments
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from tests.agents.nim import nim
from tests.agents.test_policies import done, settings
from tests.agents.toys import MORTAL, Forbidding, squad
from tests.command_line import SMALL, latest, run
from tests.test_exact_resume import check

FRIENDS = (friend("AgentIndex"), friend("ObservationNormalizer"), friend("RewardNormalizer"))
CRITICS = {"own": {}, "shuffled": {"critic": "all", "shuffle": True}}


@pytest.mark.parametrize("critic", CRITICS)
def test_agents_that_come_and_go(critic: str, tmp_path: Path) -> None:
    """220 rows are 18 steps of 4 environments with 3 agents: no whole number of episodes."""
    options = {"lives": MORTAL}
    check(squad(*FRIENDS, agents=CRITICS[critic], options=options, rollout_timesteps=220), tmp_path)


@pytest.mark.parametrize("place", ["observation", "info"])
def test_masks(place: str, tmp_path: Path) -> None:
    check(squad(make=Forbidding, options={"place": place}, rollout_timesteps=220), tmp_path)


@pytest.mark.parametrize("memory", [None, "gru"])
def test_turns_and_games_against_past_versions(memory: Any, tmp_path: Path) -> None:
    network = NetworkSettings(actor_hidden=(8,), critic_hidden=(8,), memory=memory, memory_width=4)
    check(nim(friend("SelfPlay", save_steps=40, window=2), num_envs=5, network=network), tmp_path)


def assert_same(one: Path, other: Path) -> None:
    for policy in ("scout", "team"):
        saved = [load_latest(each / "policies" / policy / "checkpoints") for each in (one, other)]
        assert saved[0] is not None and saved[1] is not None
        every = [each.tensors | (read_environments(each) or {}) for each in saved if each is not None]
        assert every[0].keys() == every[1].keys() and "environments.bytes" in every[0]
        for name, tensor in every[0].items():
            assert torch.equal(tensor, every[1][name]), f"{policy}: {name}"


@pytest.mark.parametrize("agents", [{"critic": "environment", "shuffle": True}, {"turns": 1}])
def test_several_policies(agents: dict[str, Any], tmp_path: Path) -> None:
    chosen = settings(agents, exact_resume=True)
    chosen = replace(chosen, ppo=replace(chosen.ppo, rollout_timesteps=220))
    chosen = replace(chosen, friends=(*chosen.friends, friend("RewardNormalizer")), num_timesteps=500)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done(whole, chosen)
    done(parts, replace(chosen, num_timesteps=140))
    done(parts, chosen)
    assert_same(whole, parts)


def test_from_the_command_line(tmp_path: Path) -> None:
    name, folder = "tests.agents.toys:parallel_env", "tests.agents.toys-parallel_env"
    command = ["-e", name, "--num_timesteps=400", *SMALL, "--with=RewardNormalizer", "--exact_resume"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*command, "--state_path", whole).status == 0
    stopped = run(*command, "--state_path", parts, "--with=tests.toys:SignalAt:iteration=2")
    assert stopped.status == 130
    assert run(*command, "--state_path", parts).status == 0
    one, other = latest(whole, folder), latest(parts, folder)
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
