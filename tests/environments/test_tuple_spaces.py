"""Environments with tuples of spaces, as those of several agents, by PettingZoo's rules."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.environments.tuple_spaces import TupleSpacesEnv, lbforaging, rware
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings
from ppo_and_friends.vector.factory import make_vector_env


class Pair(gymnasium.Env[Any, Any]):
    """Agent k observes [k, t], is rewarded with 10 k + its action, and the third step is the last."""

    observation_space = spaces.Tuple([spaces.Box(0, 99, (2,), np.float32)] * 2)
    action_space = spaces.Tuple([spaces.Discrete(3)] * 2)

    def __init__(self, ending: str = "truncated", each: bool = False) -> None:
        self.ending, self.each = ending, each

    def _observe(self) -> Any:
        return tuple(np.array([k, self.t], np.float32) for k in range(2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        rewards = [10.0 * k + int(one) for k, one in enumerate(action)]
        over = self.t >= 3
        flags = [over and self.ending == kind for kind in ("terminated", "truncated")]
        if self.each:  # some have a flag for each agent
            flags = [[flag] * 2 for flag in flags]  # type: ignore[misc]
        return self._observe(), rewards, *flags, {"load": 2.0}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_an_agent_for_each_place(ending: str, each: bool) -> None:
    settings = EnvironmentSettings(
        id="Pair",
        api="petting_zoo",
        factory=lambda: TupleSpacesEnv(Pair(ending, each)),
        num_envs=1,
    )
    with closing(make_vector_env(settings, Layout(1, 0, 1), agents=AgentSettings())) as envs:
        assert envs.agents == ("agent_0", "agent_1")
        assert envs.reset(1)["policy"].tolist() == [[0, 0], [1, 0]]
        steps = [envs.step(np.array([1, 2])) for _ in range(4)]
    assert [step.rewards.tolist() for step in steps] == [[1, 12]] * 3 + [[0, 0]]
    assert [step.active.all() for step in steps] == [True, True, True, False]  # the last is a reset
    assert steps[1].observations["policy"].tolist() is not None
    assert getattr(steps[2], ending).all() and not getattr(steps[1], ending).any()
    assert steps[2].infos[0]["load"] == 2.0


def test_other_spaces_are_refused() -> None:
    with pytest.raises(UsageError, match="must be tuples of equal length"):
        TupleSpacesEnv(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(("package", "make"), [("lbforaging", lbforaging), ("rware", rware)])
def test_the_package_or_a_word_on_how_to_get_it(package: str, make: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UsageError, match=rf"pip install 'ppo-and-friends\[{package}\]'"):
            make()
    pytest.importorskip(package)
    with closing(make()) as env, closing(make()) as other:
        observations, _ = env.reset(seed=1)
        assert list(observations) == env.possible_agents == ["agent_0", "agent_1", "agent_2"]
        again, _ = other.reset(seed=1)
        assert all(np.array_equal(observations[agent], again[agent]) for agent in env.agents)
        _, rewards, *_ = env.step(dict.fromkeys(env.agents, 0))
        assert list(rewards) == env.possible_agents
