"""The order of the hooks as a list, and that friends are found, made and refused as they should."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends import Friend, FriendGroup
from ppo_and_friends.friends.catalog import find_friend, make_friend
from ppo_and_friends.ppo.hooks import Hooks
from ppo_and_friends.ppo.rollout import RewardStream
from ppo_and_friends.settings.experiment import EnvironmentSettings, friend
from tests.engine import experiment, on_ranks, train
from tests.rollouts import arrays


def hooks() -> list[str]:
    """Every hook, those of the setup first, in the order in which they are defined."""
    own = [
        name for kind in (Friend, Hooks) for name, value in vars(kind).items() if hasattr(value, "combine")
    ]
    return ["setup", "observation_space", *own]


HOOKS = hooks()


class Diary(Friend):
    """Writes down every call of a hook."""

    pages: ClassVar[list[str]] = []

    def __init__(self, label: str = "") -> None:
        super().__init__()
        self.label = label

    @property
    def name(self) -> str:
        return f"Diary{self.label}"


def _written(hook: str) -> Any:
    original = getattr(Friend, hook)

    def call(self: Diary, *arguments: Any) -> Any:
        self.pages.append(self.label + hook)
        return original(self, *arguments)

    return call


for _hook in hooks():
    setattr(Diary, _hook, _written(_hook))

CART_POLE = EnvironmentSettings(id="CartPole-v1", num_envs=4, backend="gymnasium")
"""On an engine whose environments can be given tasks, as a friend with all hooks wants."""

SETUP = ["setup", "observation_space", "build", "adapt", "attach"]
STEP = ["transform", "shape_noise", "replace_actions", "observe"]
MINIBATCH = ["before_minibatch", "loss", "before_step", "after_minibatch"]
EPOCH = ["before_epoch", *MINIBATCH * 2, "wants_to_stop"]
ITERATION = [
    *("before_rollout", *STEP * 3, "transform", "after_rollout"),
    *("decode_values", "adjust_values", "after_estimation", "encode_returns"),
    *("before_update", *EPOCH * 2, "after_update", "metrics"),
]


def test_the_order_of_the_hooks() -> None:
    """Two iterations of three steps, two epochs, two minibatches."""
    Diary.pages.clear()
    settings = experiment(CART_POLE, (friend(Diary),), num_envs=4, rollout_timesteps=12, minibatch_size=6)
    ((trainer, _),) = train(settings, 2)
    # Episodes begin in the first iteration, one in each environment; CartPole's last longer than six steps.
    assert Diary.pages == [*SETUP, ITERATION[0], *(["choose_task"] * 4), *ITERATION[1:], *ITERATION]
    # Every hook there is has its place above; the session asks for films, and whether training is finished.
    # No critic of its own observations is there.
    elsewhere = {"recordings", "before_checkpoint", "finished", "transform_critic"}
    assert set(hooks()) == set(Diary.pages) | elsewhere
    assert not trainer.friends.finished()


def test_friends_are_called_in_order_and_undone_in_reverse() -> None:
    Diary.pages.clear()
    settings = experiment(
        CART_POLE,
        (friend(Diary, label="A"), friend(Diary, label="B")),
        num_envs=4,
        rollout_timesteps=12,
        minibatch_size=6,
    )
    train(settings, 1)
    for hook in hooks():
        calls = [page for page in Diary.pages if page[1:] == hook]
        expected = "BA" if hook == "encode_returns" else "AB"
        assert "".join(page[0] for page in calls) == expected * (len(calls) // 2), hook


def test_hooks_that_nobody_has_are_not_called() -> None:
    class Idle(Friend):
        pass

    group = FriendGroup([Idle()])
    assert all(group.calls(hook) == () for hook in HOOKS)
    assert group.metrics() == {} and not group.wants_to_stop({})


def test_all_friends_are_asked_to_stop() -> None:
    asked: list[str] = []

    class Stop(Friend):
        def __init__(self, label: str) -> None:
            super().__init__()
            self.label = label

        @property
        def name(self) -> str:
            return self.label

        def wants_to_stop(self, stats: dict[str, float]) -> bool:
            asked.append(self.label)
            return True

    assert FriendGroup([Stop("a"), Stop("b")]).wants_to_stop({})
    assert asked == ["a", "b"]


class Extra(Friend):
    """Brings a stream."""

    def __init__(self, stream: str = "novelty", label: str = "Extra") -> None:
        super().__init__()
        self.label = label
        self.streams = (RewardStream(stream, 0.5, 1.0, episodic=False, weight=2.0),)

    @property
    def name(self) -> str:
        return self.label

    def after_rollout(self, rollout: Any) -> None:
        rollout.rewards[self.streams[0].name] = torch.ones_like(rollout.rewards["extrinsic"])


def test_a_stream_has_its_own_value_and_adds_to_the_advantage() -> None:
    def work(trainer: Any, _: Any) -> None:
        rollout = trainer.collect()
        trainer.estimate(rollout)
        rollout = arrays(rollout)
        plain = rollout.returns["extrinsic"] - rollout.values["extrinsic"][:-1]
        added = rollout.returns["novelty"] - rollout.values["novelty"][:-1]
        expected = (plain + 2.0 * added) * rollout.active
        np.testing.assert_allclose(rollout.advantages * rollout.active, expected, atol=1e-5)
        assert not np.allclose(rollout.values["novelty"], rollout.values["extrinsic"])
        # Of the last step: 1 + V' / 2.
        np.testing.assert_allclose(
            rollout.returns["novelty"][-1][rollout.active[-1]],
            (1 + 0.5 * rollout.values["novelty"][-1])[rollout.active[-1]],
            rtol=1e-5,
        )

    on_ranks(experiment("CartPole-v1", (friend(Extra),)), 1, work)


def test_a_friend_whose_loss_is_named() -> None:
    class Term(Friend):
        def loss(self, minibatch: Any) -> dict[str, Tensor]:
            return {"five": minibatch.mean(minibatch.active * 5.0) + 0.0 * minibatch.value_outputs.sum()}

    for size in (1, 2):
        for _, metrics in train(experiment("CartPole-v1", (friend(Term),)), 1, size):
            assert metrics[0]["Term/five"] == pytest.approx(5.0)


class Needy(Friend):
    """Can't be made without an argument."""

    def __init__(self, needed: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("friends", "said"),
    [
        ((friend(Extra), friend(Extra)), "two friends named Extra"),
        ((friend(Extra), friend(Extra, label="Other")), "Two friends have a reward stream 'novelty'"),
        ((friend(Extra, stream="extrinsic"),), "Two friends have a reward stream 'extrinsic'"),
        ((friend("KLEarlyStopp"),), "Did you mean KLEarlyStop"),
        ((friend("no_module:Mine"),), "can't be imported"),
        ((friend("ppo_and_friends.ppo.trainer:Trainer"),), "not a friend"),
        ((friend("ppo_and_friends.ppo.trainer:Nobody"),), "can't be imported"),
        ((friend("KLEarlyStop", tarjet=1.0),), r"no argument 'tarjet'. It accepts: target"),
        ((friend("KLEarlyStop", target="far"),), r"target='far' is not right"),
        ((friend("KLEarlyStop", target=0.0),), "target must be positive"),
        ((friend("AdaptiveLearningRate", factor=1.0),), "factor > 1"),
        ((friend("AdaptiveLearningRate", target="0.1:0"),), "targets > 0"),
        ((friend("RewardClip", low=1.0, high=-1.0),), "low must be below high"),
        ((friend("RewardClip", low="-1:1"),), "low must be below high"),
        ((friend("RewardClip", low="-inf:-1"),), "both ends of a moving value must be finite"),
        ((friend("ObservationClip", limit=-1.0),), "limit must be positive"),
        ((friend(Needy),), "can't be made"),
    ],
)
def test_mistakes_are_named(friends: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        train(experiment("CartPole-v1", friends), 1)
    assert len(str(caught.value).splitlines()) <= 2


def test_arguments_become_their_types() -> None:
    made: Any = make_friend(friend("KLEarlyStop", target="0.5"))
    assert made.target == 0.5 and isinstance(made.target, float)
    assert find_friend("ppo_and_friends.friends.kl:KLEarlyStop") is type(made)


def test_a_module_that_nobody_would_train_is_refused() -> None:
    class Forgetful(Friend):
        def build(self, space: Any) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(UsageError, match=r"Forgetful has a module 'layer'.*self\.own\('layer'"):
        train(experiment("CartPole-v1", (friend(Forgetful),)), 1)
