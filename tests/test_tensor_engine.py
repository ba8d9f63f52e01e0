"""An engine on a device: its tensors are stepped, learned from and tested, and never become arrays."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.networks.kernels import fused_layers
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from ppo_and_friends.vector.protocol import NO_SPACES, VectorStep
from tests.engine import experiment

FORBIDDEN = ("numpy", "__array__", "cpu", "tolist", "item")
"""Ways from a device to the host."""


class OnDevice(Tensor):
    """A tensor that can't leave its device, nor can what is computed from it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.__name__ not in FORBIDDEN, f"{func.__name__}: it became an array"
        return super().__torch_function__(func, types, args, kwargs or {})

    def __array__(self, *_: Any) -> Any:
        raise AssertionError("it became an array")


class Recall:
    """Names an action of four; taking it gives a reward of 1. Episodes of 5 steps, of 4 in every other row.

    With ``delay`` the action is named at an episode's first step alone, and is to be taken at all.
    """

    device = torch.device("cpu")
    other_spaces: Any = NO_SPACES
    action_space = spaces.Discrete(4)
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def __init__(self, num_envs: int, delay: bool = False, fault: str = "") -> None:
        self.num_envs, self.delay, self.fault = num_envs, delay, fault
        self.limit = 5 - torch.arange(num_envs) % 2

    def _observe(self) -> dict[str, Tensor]:
        named = torch.nn.functional.one_hot(self.target, 4).float()
        if self.delay:
            named = named * (self.t == 0).unsqueeze(-1)
        return {"policy": 10.0 * named.as_subclass(OnDevice)}

    def _draw(self) -> Tensor:
        return torch.randint(0, 4, (self.num_envs,), generator=self.generator)

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.generator = torch.Generator().manual_seed(seed)
        self.target, self.t = self._draw(), torch.zeros(self.num_envs, dtype=torch.int64)
        self.over = torch.zeros(self.num_envs, dtype=torch.bool)
        self.steps = 0
        return self._observe()

    def step(self, actions: Any) -> VectorStep:
        assert isinstance(actions, Tensor) and actions.shape == (self.num_envs,)
        self.steps += 1
        resets = self.over
        rewards = (actions == self.target).float() * ~resets
        self.t = torch.where(resets, 0, self.t + 1)
        self.over = self.t >= self.limit
        self.target = self._draw() if not self.delay else torch.where(resets, self._draw(), self.target)
        if self.fault == "nan" and self.steps == 3:
            rewards[2] = torch.nan
        if self.fault == "shape":
            rewards = rewards.unsqueeze(-1)
        never = torch.zeros_like(resets)
        return VectorStep(self._observe(), rewards, never, self.over, ~resets, resets, rewards, self.over)

    def close(self) -> None:
        pass


def build(
    *friends: Any,
    delay: bool = False,
    fault: str = "",
    memory: str | None = None,
    steps: int = 32,
    engine: Any = Recall,
) -> Trainer:
    chosen = experiment(
        "CartPole-v1",  # whose place the engine takes
        friends,
        num_envs=16,
        network=NetworkSettings(actor_hidden=(16,), critic_hidden=(16,), memory=memory, memory_width=16),  # type: ignore[arg-type]
        rollout_timesteps=16 * steps,
        minibatch_size=128,
        epochs=4,
        learning_rate=3e-3,
        gamma=0.9,
    )
    layout = divide(16, 0, 1)
    return build_trainer(chosen, SoloCommunicator(), engine(layout.local, delay, fault))


ALL = (friend("ObservationNormalizer"), friend("ObservationClip"), friend("RewardNormalizer"))


def test_it_learns_and_is_tested_without_an_array() -> None:
    trainer = build(*ALL, friend("AdvantageNormalizer"), friend("RND"), friend("ICM"))
    first = trainer.train_iteration()
    # 32 rows each: of 6, or of 5, the last one is a reset.
    assert trainer.timesteps == 8 * (32 - 5) + 8 * (32 - 6)
    for _ in range(24):
        last = trainer.train_iteration()
    assert first["episode_return_mean"] < 2.5 and last["episode_return_mean"] > 4.0
    policy, engine = trainer.agent.policy(), Recall(6)
    observations, score = engine.reset(7), torch.zeros(6)
    for _ in range(5):
        actions = policy.act(observations)
        assert isinstance(actions, Tensor)
        step = engine.step(actions.as_subclass(Tensor))
        observations, score = step.observations, score + step.true_rewards
    # Of 5 steps each, all right, but for the reset in rows of 4.
    assert score.tolist() == [5.0, 4.0] * 3


def test_with_memory_it_recalls() -> None:
    """The action is named once, so that without memory a quarter is what is right later on."""
    trainer = build(delay=True, memory="gru", steps=30)
    for _ in range(40):
        last = trainer.train_iteration()
    assert last["episode_return_mean"] > 4.0  # of 4.5; without memory 1 + 3.5 / 4 is the most


class Masked(Recall):
    """Forbids two actions of four, one of them the one that is named; where an episode ends, all."""

    other_spaces: Any = MappingProxyType({"action_mask": spaces.Box(0, 1, (4,), np.bool_)})  # type: ignore[arg-type]

    def _observe(self) -> dict[str, Tensor]:
        named = torch.nn.functional.one_hot(self.target, 4).bool()
        legal = named.roll(1, -1) | named.roll(2, -1)
        over = torch.zeros_like(self.over) if self.fault == "dead end" else self.over
        if self.fault == "dead end":
            legal = legal & ~(self.t == 2).unsqueeze(-1)
        return {**super()._observe(), "action_mask": (legal & ~over.unsqueeze(-1)).as_subclass(OnDevice)}


def test_masks_stay_on_the_device_and_are_kept() -> None:
    """Of two legal actions the one after the named one is never right, nor is the other: no reward at all."""
    trainer = build(*ALL, engine=Masked)
    for _ in range(3):
        assert trainer.train_iteration()["episode_return_mean"] == 0.0
    rollout = trainer.collector.rollout
    legal = rollout.observations["action_mask"][:-1].gather(-1, rollout.actions).squeeze(-1)
    assert legal[rollout.active].all() and not legal.all()
    with pytest.raises(
        EnvironmentFault, match=r"environment 0, step 2 of the rollout, action_mask: no action"
    ):
        build(engine=Masked, fault="dead end").train_iteration()


class Crossings(TorchFunctionMode):
    """Counts what goes between tensors and arrays or numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        # Friends' statistics are on the host in any case: float64 without an axis.
        of_host = name == "item" and args[0].dtype is torch.float64 and args[0].dim() == 0
        if name in (*FORBIDDEN, "as_tensor", "__bool__", "__float__") and not of_host:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def test_what_crosses_does_not_grow_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout's noise goes one way and its rewards the other, whatever its length; a step sends nothing."""
    monkeypatch.setitem(fused_layers.IN_PLACE, "tanh", torch.tanh_)  # by NumPy on the CPU alone
    found = []
    sent: list[Any] = []
    from_numpy = torch.from_numpy  # which the mode doesn't see
    monkeypatch.setattr(torch, "from_numpy", lambda array: (sent.append(array), from_numpy(array))[1])
    for steps in (8, 64):
        trainer = build(*ALL, steps=steps)
        trainer.train_iteration()
        sent.clear()
        with Crossings() as crossings:
            trainer.estimate(trainer.collect())
        found.append(crossings.found | Counter(from_numpy=len(sent)))
    assert found[0] == found[1] and found[0]["from_numpy"] > 0 and found[0]["numpy"] > 0


def test_numbers_and_shapes_are_checked() -> None:
    with pytest.raises(EnvironmentFault, match=r"environment 2, step 2 of the rollout, reward: nan is not"):
        build(fault="nan").train_iteration()
    with pytest.raises(EnvironmentFault, match=r"rewards: batch shape \[16, 1\], not \[16\]"):
        build(fault="shape").train_iteration()


def test_friends_that_need_arrays_refuse_by_name() -> None:
    with pytest.raises(UsageError, match="ObservationHistory works on NumPy arrays"):
        build(friend("ObservationHistory"))


@pytest.mark.parametrize("name", ["ObservationNormalizer", "ObservationClip"])
def test_friends_make_the_same_of_tensors_as_of_arrays(name: str) -> None:
    trainer = build(friend(name))
    if name == "ObservationNormalizer":
        (own,) = trainer.friends  # type: ignore[misc]
        own.mean.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        own.variance.fill_(4.0)
        own.count.fill_(10.0)
    rows = 20.0 * np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    history: Any = None
    as_array = trainer.friends.transform(rows, history)
    as_tensor = trainer.friends.transform(torch.from_numpy(rows), history)
    np.testing.assert_allclose(as_tensor, as_array, rtol=1e-12)
