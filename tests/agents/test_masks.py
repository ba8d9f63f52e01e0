"""Action masks of several agents: each agent's own, from its observation or its info."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppo_and_friends import evaluate, load_policy
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings, friend
from ppo_and_friends.vector.factory import make_policy_envs, make_vector_env
from tests.agents.toys import Forbidding, Squad, squad
from tests.engine import train
from tests.test_trained_policy import saved


def made(place: str = "observation", make: Any = Forbidding, **settings: Any) -> Any:
    environment = EnvironmentSettings(
        id="Squad", api="petting_zoo", factory=make, arguments={"place": place}, **settings
    )
    return make_vector_env(environment, Layout(2, 0, 2))


@pytest.mark.parametrize("place", ["observation", "info"])
def test_each_agent_has_its_own(place: str) -> None:
    with closing(made(place)) as envs:
        assert envs.observation_space.shape == (4,)  # without the mask
        first = envs.reset(3)["action_mask"]
        # The third isn't there yet: nothing is forbidden to it. The second dies with step 2.
        assert first.astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]] * 2
        actions = np.array([0, 1, 2] * 2)
        masks = [envs.step(actions).observations["action_mask"].astype(int).tolist() for _ in range(4)]
    own = np.eye(3, dtype=int).tolist()
    assert masks[0] == own * 2
    assert masks[1] == [own[0], [1, 1, 1], own[2]] * 2
    assert masks[3] == [[1, 1, 1]] * 6  # the episode is over


@pytest.mark.parametrize("place", ["observation", "info"])
def test_only_what_is_legal_is_done(place: str, tmp_path: Path) -> None:
    """The environment raises otherwise: in training, in an evaluation and by a loaded policy."""
    chosen = squad(friend("AgentIndex"), make=Forbidding, options={"place": place})
    (_, metrics) = train(chosen, 2)[0]
    assert metrics[-1]["entropy"] == pytest.approx(0.0, abs=1e-6)
    saved(tmp_path, chosen, 1)
    policy = load_policy(tmp_path, trust=True)
    assert evaluate(policy, 2, deterministic=False).returns.tolist() == [34.0, 34.0]
    env = Forbidding(place)
    observations, infos = env.reset(seed=1)
    while env.agents:
        masks = {agent: infos[agent]["action_mask"] for agent in env.agents} if place == "info" else None
        seen = {agent: observations[agent] for agent in env.agents}
        observations, _, _, _, infos = env.step(policy(seen, action_mask=masks))
    if place == "info":
        with pytest.raises(UsageError, match="trained with action masks"):
            policy(seen)
        with pytest.raises(UsageError, match="By agent, give"):
            policy(seen, action_mask=np.ones(3, bool))


def test_masks_that_cannot_be_used() -> None:
    class Short(Forbidding):
        def _mask(self, agent: str) -> Any:
            return super()._mask(agent)[: 2 if agent == "agent_1" else 3]

    with closing(made(make=Short)) as envs, pytest.raises(EnvironmentFault) as raised:
        envs.reset(0)
    assert "the first reset, agent_1, action_mask: shape [2], not [3]" in str(raised.value)

    class Nothing(Forbidding):
        def _mask(self, agent: str) -> Any:
            return super()._mask(agent) * (self.t < 1)

    with closing(made(make=Nothing)) as envs:
        envs.reset(0)
        with pytest.raises(EnvironmentFault, match="agent_0, action_mask: no action is legal"):
            envs.step(np.array([0, 1, 2] * 2))
    with pytest.raises(
        UsageError, match=r"environment\.action_masks=info: agent_0 has no 'action_mask' there"
    ):
        made(action_masks="info")
    with closing(made(action_masks="off")) as envs:
        assert envs.observation_space.shape == (7,) and "action_mask" not in envs.other_spaces
    environment = EnvironmentSettings(id="Squad", api="petting_zoo", factory=Squad)
    with closing(make_vector_env(environment, Layout(1, 0, 1))) as envs:
        assert "action_mask" not in envs.other_spaces


def test_policies_of_which_one_has_masks() -> None:
    """What one policy's agents have in their infos says nothing about another's."""

    class Scout(Forbidding):
        def _info(self, agent: str) -> Any:
            return super()._info(agent) if agent == "agent_0" else {}

    environment = EnvironmentSettings(
        id="Squad", api="petting_zoo", factory=Scout, arguments={"place": "info"}
    )
    agents = AgentSettings(policies={"agent_0": "scout", "*": "team"})
    teams, envs = make_policy_envs(environment, agents, Layout(1, 0, 1))
    with closing(teams):
        teams.reset(0)
        assert envs["scout"].reset(0)["action_mask"].tolist() == [[True, False, False]]
        assert "action_mask" not in envs["team"].reset(0)
