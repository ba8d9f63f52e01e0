"""The backend for environments with several agents: what each row of each step holds."""

from __future__ import annotations

import copy
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import AgentSettings, AtariSettings, EnvironmentSettings
from ppo_and_friends.vector.factory import make_policy_envs, make_vector_env
from tests.agents.toys import MORTAL, Squad

N = 3
ONE = Layout(1, 0, 1)


def made(layout: Layout = ONE, agents: Any = None, **arguments: Any) -> Any:
    settings = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Squad, arguments=arguments)
    return make_vector_env(settings, layout, 1, AgentSettings(**(agents or {})))


def steps(envs: Any, count: int, rows: int = N) -> list[Any]:
    # Copies, since the next step may overwrite the data.
    return [copy.deepcopy(envs.step(np.arange(rows) % 3)) for _ in range(count)]


def flags(rows: Any, name: str) -> list[list[int]]:
    return [getattr(row, name).astype(int).tolist() for row in rows]


def test_rows_of_agents_that_are_always_there() -> None:
    with closing(made(Layout(4, 2, 2))) as envs:
        assert (envs.num_envs, envs.agents) == (6, ("agent_0", "agent_1", "agent_2"))
        first = envs.reset(100)["policy"]
        # Environments are seeded by their first row: 100 and 103, so that the layout doesn't matter.
        assert first[:, :3].tolist() == [[100, k, 0] for k in range(3)] + [[103, k, 0] for k in range(3)]
        seen = steps(envs, 6, rows=6)
    assert seen[0].rewards.tolist() == [1, 11, 21] * 2
    assert seen[1].rewards.tolist() == [2, 12, 22] * 2
    one, none = [1] * 6, [0] * 6
    # Four steps, a reset, and the next episode's first step.
    assert flags(seen, "active") == [one, one, one, one, none, one]
    assert flags(seen, "truncated") == [none, none, none, one, none, none]
    assert flags(seen, "finished") == flags(seen, "truncated")
    assert flags(seen, "episode_starts") == [none, none, none, none, one, none]
    assert not np.any(flags(seen, "terminated"))
    assert seen[3].observations["policy"][:, 2].tolist() == [4] * 6  # the true last ones
    assert seen[4].observations["policy"][:, 2].tolist() == [0] * 6
    # 1 + 2 + 3 + 4 = 10, and 10 k in each of 4 steps; the team's is the sum.
    returns = {f"episode_return/agent_{k}": 10.0 + 40 * k for k in range(3)}
    expected = [{name: value, "place": 4.0} for name, value in returns.items()]
    expected[0]["episode_return/team"] = 150.0
    assert seen[3].infos == {row: expected[row % 3] for row in range(6)}
    assert not seen[4].infos


def test_agents_that_come_late_and_die_early() -> None:
    with closing(made(lives=MORTAL)) as envs:
        first = envs.reset(7)["policy"]
        assert first[:, 1].tolist() == [0, 1, 0] and not first[2].any()  # the third isn't there yet
        seen = steps(envs, 5)
        taken = envs.env.teams.teams[0].env.actions
    assert flags(seen, "active") == [[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 0]]
    assert flags(seen, "terminated") == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert flags(seen, "truncated") == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert flags(seen, "episode_starts") == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert [row.rewards.tolist() for row in seen] == [
        [1, 11, 0],
        [2, 12, 22],
        [3, 0, 23],
        [4, 0, 24],
        [0, 0, 0],
    ]
    assert [list(actions) for actions in taken] == [
        ["agent_0", "agent_1"],
        ["agent_0", "agent_1", "agent_2"],
        ["agent_0", "agent_2"],
        ["agent_0", "agent_2"],
    ]
    # The dead keep their last observation, of time 2.
    assert seen[3].observations["policy"][:, 2].tolist() == [4, 2, 4]
    assert seen[1].infos == {1: {"episode_return/agent_1": 23.0, "place": 2.0}}
    assert seen[3].infos[2]["episode_return/agent_2"] == 22 + 23 + 24
    assert seen[3].infos[0]["episode_return/team"] == 10 + 23 + 69


def test_an_agent_that_vanishes_has_terminated() -> None:
    class Silent(Squad):
        def step(self, actions: Any) -> Any:
            observations, rewards, _, _, infos = super().step(actions)
            return observations, rewards, {}, {}, infos

    settings = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Silent, arguments={"lives": MORTAL})
    with closing(make_vector_env(settings, ONE)) as envs:
        envs.reset(0)
        seen = steps(envs, 4)
    assert flags(seen, "terminated") == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_a_time_limit_of_the_settings() -> None:
    settings = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Squad, max_episode_steps=2)
    with closing(make_vector_env(settings, ONE)) as envs:
        envs.reset(0)
        seen = steps(envs, 3)
    assert flags(seen, "truncated") == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert flags(seen, "active") == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]


def test_a_time_limit_that_belongs_to_the_task_terminates() -> None:
    with closing(made(agents={"truncation": "terminate"})) as envs:
        envs.reset(0)
        seen = steps(envs, 4)
    assert flags(seen, "terminated")[3] == [1, 1, 1] == flags(seen, "finished")[3]
    assert not np.any(flags(seen, "truncated"))


def test_the_dead_may_still_be_listed() -> None:
    """An environment that never takes anybody off its list says who is gone by its flags alone."""

    class Lingering(Squad):
        def step(self, actions: Any) -> Any:
            self.agents = list(actions)
            observations, rewards, terminations, truncations, infos = super().step(actions)
            if self.t >= 2:
                terminations["agent_1"] = True
            self.agents = list(self.possible_agents)
            return observations, rewards, terminations, truncations, infos

    lives = ((0, 99), (0, 2), (0, 99))
    settings = EnvironmentSettings(
        id="Squad", api="petting_zoo", factory=Lingering, arguments={"lives": lives}
    )
    with closing(make_vector_env(settings, ONE)) as envs:
        envs.reset(0)
        seen = steps(envs, 6)
    assert flags(seen, "active") == [[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert flags(seen, "episode_starts")[2:5] == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]


def test_a_teams_reward_is_the_mean_of_those_who_acted() -> None:
    with closing(made(agents={"reward": "team"}, lives=MORTAL)) as envs:
        envs.reset(0)
        seen = steps(envs, 3)
    means = [(1 + 11) / 2, (2 + 12 + 22) / 3, (3 + 23) / 2]
    assert [row.rewards.tolist() for row in seen] == [
        [means[0]] * 2 + [0],
        [means[1]] * 3,
        [means[2], 0, means[2]],
    ]
    assert seen[1].true_rewards.tolist() == [2, 12, 22]  # what is reported is their own


def test_a_critic_that_sees_all_agents() -> None:
    with closing(made(agents={"critic": "all"}, lives=MORTAL)) as envs:
        assert envs.other_spaces["critic"].shape == (12,)
        first = copy.deepcopy(envs.reset(7))
        policy, critic = first["policy"], first["critic"]
        nobody = np.zeros(4)
        # Each begins with its own, the others follow from the next on; the third isn't there.
        assert np.array_equal(critic[0], np.concatenate((policy[0], policy[1], nobody)))
        assert np.array_equal(critic[1], np.concatenate((policy[1], nobody, policy[0])))
        seen = steps(envs, 3)
        last = seen[2].observations
        # The second is dead: its last observation isn't of now.
        assert np.array_equal(
            last["critic"][2], np.concatenate((last["policy"][2], last["policy"][0], nobody))
        )
        final = seen[1].observations
        # With its last step it still counts: what it saw then is of now.
        assert np.array_equal(final["critic"][1], np.concatenate([final["policy"][k] for k in (1, 2, 0)]))


def test_a_critic_that_sees_the_agents_of_other_policies() -> None:
    settings = EnvironmentSettings(
        id="Squad", api="petting_zoo", factory=Squad, arguments={"lives": MORTAL, "sizes": (4, 5, 4)}
    )
    shared = AgentSettings(policies={"agent_1": "scout", "*": "team"}, critic="environment")
    teams, envs = make_policy_envs(settings, shared, Layout(2, 0, 2))
    with closing(teams):
        assert [env.other_spaces["critic"].shape for env in envs.values()] == [(13,), (13,)]
        teams.reset(7)
        scout, team = (copy.deepcopy(envs[name].reset(7)) for name in ("scout", "team"))
        zeros = np.zeros(4)
        for e in (0, 1):
            first, second = team["policy"][2 * e], scout["policy"][e]
            # The agents of the own policy come first, whose places are alike for all of them; the third isn't
            # there yet.
            assert np.array_equal(team["critic"][2 * e], np.concatenate((first, zeros, second)))
            assert np.array_equal(team["critic"][2 * e + 1], np.concatenate((zeros, first, second)))
            assert np.array_equal(scout["critic"][e], np.concatenate((second, first, zeros)))
        for _ in range(3):
            for env in envs.values():
                env.env.offer(np.zeros(env.num_envs))
            teams.step_with_offered()
            last = {name: copy.deepcopy(env.step(None).observations) for name, env in envs.items()}
    first, third = last["team"]["policy"][:2]
    # The second has died: of it nothing is seen any more.
    assert np.array_equal(last["team"]["critic"][1], np.concatenate((third, first, np.zeros(5))))


def test_the_other_agents_in_random_order() -> None:
    """In an order of its own in each episode of each environment, whichever others are on its rank."""

    def orders(layout: Layout) -> Any:
        lives = ((0, 99),) * 4
        with closing(made(layout, agents={"critic": "all", "shuffle": True}, lives=lives)) as envs:
            found = [envs.reset(7 + 4 * layout.first)["critic"].copy()]
            found += [step.observations["critic"] for step in steps(envs, 15, rows=4 * layout.local)]
        return np.stack(found)[..., 1::4].astype(int)  # each agent observes its place

    every = orders(Layout(2, 0, 2))
    assert np.array_equal(every[..., 0], np.tile(np.arange(4), (16, 2)))  # its own comes first
    assert np.array_equal(np.sort(every), np.broadcast_to(np.arange(4), every.shape))
    episodes = every[:15].reshape(3, 5, 8, 4)
    assert (episodes == episodes[:, :1]).all()  # to the final observation
    assert len({episode[0].tobytes() for episode in episodes}) > 1
    assert not np.array_equal(every[0, :4], every[0, 4:])
    assert np.array_equal(orders(Layout(2, 1, 1)), every[:, 4:])
    with pytest.raises(UsageError, match="to all, not own"):
        made(agents={"shuffle": True})


def test_a_critic_that_sees_the_state() -> None:
    with closing(made(agents={"critic": "state"})) as envs:
        first = envs.reset(7)
        assert np.array_equal(first["critic"], np.hstack([first["policy"], [[100, 7]] * 3]))
        second = envs.step(np.zeros(3)).observations
        assert np.array_equal(second["critic"], np.hstack([second["policy"], [[101, 7]] * 3]))


FAULTS = {
    "raise": "environment 5, step 2, step: ZeroDivisionError: the rope tore",
    "nan": "environment 5, step 2, agent_1, observation[2]: nan is not a finite number",
    "missing observation": "environment 5, step 2, agent_1, observation: is missing",
    "missing reward": "environment 5, step 2, agent_1, reward: is missing",
    "shape": "environment 5, step 2, agent_1, observation: shape [5], but its space has [4]",
    "flag": "environment 5, step 2, agent_1, terminated: str 'no' is not a bool",
    "stranger": "environment 5, step 2, agents: 'agent_9' isn't among its possible_agents",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_their_agent(fault: str) -> None:
    with closing(made(Layout(6, 5, 1), fault=fault)) as envs:
        envs.reset(0)
        steps(envs, 1)
        with pytest.raises(EnvironmentFault) as raised:
            steps(envs, 1)
    assert str(raised.value).startswith(FAULTS[fault])


REFUSED: dict[str, tuple[Any, str]] = {
    "sizes": ({"arguments": {"sizes": (4, 4, 5)}}, "agent_0 and agent_2 have different observation spaces"),
    "nobody": ({"arguments": {"names": (), "lives": ()}}, "possible_agents is []"),
    "twice": ({"arguments": {"names": ("a", "a", "b")}}, "must name each agent, once"),
    "repeat": ({"action_repeat": 2}, "environment.action_repeat is for environments with a single agent"),
    "atari": ({"atari": AtariSettings()}, "environment.atari is for environments with a single agent"),
    "backend": ({"backend": "async"}, "backend 'async' can't run Squad, which has several agents"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_several_agents(case: str) -> None:
    changes, message = REFUSED[case]
    settings = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Squad)
    with pytest.raises(UsageError) as raised:
        make_vector_env(replace(settings, **changes), ONE)
    assert message in str(raised.value) and len(str(raised.value).splitlines()) <= 2


def test_no_state_and_the_wrong_api() -> None:
    class Stateless(Squad):
        state = property()  # type: ignore[assignment]

    several = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Stateless)
    with pytest.raises(UsageError, match="the environment has no state"):
        make_vector_env(several, ONE, 1, AgentSettings(critic="state"))
    with pytest.raises(UsageError, match=r"--set environment\.api=petting_zoo"):
        make_vector_env(replace(several, api="gymnasium", backend="gymnasium"), ONE)
    single = EnvironmentSettings(id="CartPole-v1", api="petting_zoo")
    with pytest.raises(UsageError, match="CartPole"):
        make_vector_env(single, ONE)


def test_real_environments_simultaneous_and_in_turns() -> None:
    pytest.importorskip("mpe2", reason="the extra [petting] is not installed")
    for id in ("mpe2.simple_spread_v3", "mpe2.simple_spread_v3:env"):
        settings = EnvironmentSettings(id=id, api="petting_zoo")
        with closing(make_vector_env(settings, Layout(2, 0, 2), 1, AgentSettings(critic="state"))) as envs:
            assert envs.agents == ("agent_0", "agent_1", "agent_2")
            assert envs.reset(0)["critic"].shape == (6, 18 + 54)
            seen = steps(envs, 26, rows=6)
        assert seen[24].truncated.all() and not seen[25].active.any()
