"""Environments without a launcher: what is asked for is applied before their spaces are looked at."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.registry import resolve

HERE = "tests.environments.test_generic"


class Sized(gymnasium.Env[Any, Any]):
    """Has no default size, and is continuous if asked."""

    def __init__(self, size: int, continuous: bool = False) -> None:
        self.observation_space = spaces.Box(0, 255, (size,), np.uint8)
        self.action_space = spaces.Box(-1.0, 1.0, (1,)) if continuous else spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, True, {}


def sized(size: int) -> Sized:
    return Sized(size)


class Floats(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Bytes as the first ``keep`` of them, scaled."""

    def __init__(self, env: gymnasium.Env[Any, Any], keep: int, scale: float = 1.0) -> None:
        super().__init__(env)
        self.keep, self.scale = keep, scale
        self.observation_space = spaces.Box(-np.inf, np.inf, (keep,))

    def observation(self, observation: Any) -> Any:
        return observation[: self.keep] * np.float32(self.scale)


def friends(experiment: Any) -> list[str]:
    return [spec.name for spec in experiment.friends]


@pytest.mark.parametrize("name", ["Sized", "sized"])
def test_required_arguments(name: str) -> None:
    experiment = resolve(f"{HERE}:{name}", {"environment.arguments.size": 7})
    assert experiment.environment.arguments == {"size": 7}
    again = resolve(f"{HERE}:{name}", {"environment.arguments": {"size": 7}})
    assert again == experiment
    with pytest.raises(UsageError, match=r"--set environment\.arguments"):
        resolve(f"{HERE}:{name}")


def test_defaults_come_from_the_changed_environment() -> None:
    plain = resolve(f"{HERE}:Sized", {"environment.arguments.size": 7})
    assert "ObservationNormalizer" not in friends(plain)  # bytes
    assert plain.ppo.minibatch_size == 256
    changes = {
        "environment.arguments": {"size": 7, "continuous": True},
        "environment.wrappers": [f"{HERE}:Floats(keep=3, scale=0.5)"],
        "ppo.gamma": 0.9,
    }
    changed = resolve(f"{HERE}:Sized", changes)
    assert "ObservationNormalizer" in friends(changed)
    assert (changed.ppo.minibatch_size, changed.ppo.gamma) == (512, 0.9)
    assert changed.environment.wrappers == (f"{HERE}:Floats(keep=3, scale=0.5)",)


def test_a_launcher_is_changed_as_well() -> None:
    assert resolve("CartPole", {"environment.num_envs": 3, "ppo.gamma": 0.5}).ppo.gamma == 0.5
    with pytest.raises(UsageError, match="num_env"):
        resolve("CartPole", {"environment.num_env": 3})


def test_a_wrapper_without_its_argument_is_explained() -> None:
    with pytest.raises(UsageError, match=r"Floats\(name=value, ...\); it takes .*keep: .*int") as refused:
        resolve(
            f"{HERE}:Sized", {"environment.arguments.size": 7, "environment.wrappers": [f"{HERE}:Floats"]}
        )
    assert len(str(refused.value).splitlines()) <= 2
