"""Settings from the command line: typed, checked, and never changing the launcher's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import (
    AtariSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.settings.overrides import (
    apply_settings,
    as_values,
    change_friends,
    differences,
    parse_call,
    parse_friend,
    setting_names,
    validated,
)
from ppo_and_friends.settings.registry import resolve


def launcher() -> Experiment:
    return Experiment(
        name="Toy",
        environment=EnvironmentSettings(id="Toy-v0", arguments={"gravity": 9.8, "nested": {"a": 1}}),
        network=NetworkSettings(actor_hidden=(8,)),
        friends=(friend("RewardClip", low=-5.0), friend("KLEarlyStop")),
    )


def get(experiment: Experiment, name: str) -> Any:
    value: Any = experiment
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("ppo.clip_range=0.1", Schedule(0.1)),
        ("ppo.clip_range=0.2:0.1", linear(0.2, 0.1)),
        ("ppo.learning_rate=1e-3:0", linear(1e-3)),
        ("ppo.epochs=3", 3),
        ("ppo.value_clip_range=0.2", 0.2),
        ("ppo.value_clip_range=none", None),
        ("ppo.max_grad_norm=null", None),
        ("network.actor_hidden=64,32", (64, 32)),
        ("network.actor_hidden=[64, 32]", (64, 32)),
        ("network.actor_hidden=(64,32)", (64, 32)),
        ("network.actor_hidden=64", (64,)),
        ("network.actor_hidden=()", ()),
        ("network.squash=true", True),
        ("network.squash=True", True),
        ("network.activation=relu", "relu"),
        ("environment.num_envs= 4 ", 4),
        ("environment.arguments.gravity=1.6", 1.6),
        ("environment.arguments.map_name=4x4", "4x4"),
        ("environment.max_episode_steps=100", 100),
        ("environment.wrappers=my:Wrapper", ("my:Wrapper",)),
        ("num_timesteps=1_000", 1000),
        ("precision=float64", "float64"),
        ("reward_threshold=-3.5", -3.5),
    ],
)
def test_a_setting(assignment: str, value: Any) -> None:
    before = launcher()
    untouched = copy.deepcopy(before)
    changed = apply_settings(before, [assignment])
    name = assignment.partition("=")[0]
    assert get(changed, name) == value and type(get(changed, name)) is type(value)
    assert before == untouched, "the launcher's own settings were changed"
    # Nothing else is.
    assert set(differences(as_values(before), as_values(changed))) - {name} <= {
        f"{name}.{part}" for part in ("start", "end")
    }


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("ppo.clp=0.1", r"ppo\.clp.*ppo\.clip"),
        ("clip=0.1", r"Here it is called ppo\.clip_range"),
        ("ppo.trace_decay=0.9", r"Here it is called ppo\.gae_lambda"),
        ("ent_coef=0.01", r"Here it is called ppo\.entropy_coefficient"),
        ("ppo.n_epochs=3", r"Here it is called ppo\.epochs"),
        ("batch_size=64", r"Here it is called ppo\.minibatch_size"),
        ("n_steps=64", r"called ppo\.rollout_timesteps \(over all environments together"),
        ("target_score=9", r"called reward_threshold \(which only informs; the option --target_score ends"),
        ("target_kl=0.02", r"a friend: --with KLEarlyStop:target=\.\.\."),
        ("network.initial_log_std=-1", r"Here it is called network\.log_std_init"),
        ("gamma=0.9", r"Did you mean ppo\.gamma\?"),
        ("ppo=3", "no such setting"),
        ("ppo.epochs", "name=value"),
        ("ppo.epochs=0", r"ppo\.epochs.*greater than 0"),
        ("ppo.epochs=-3", r"ppo\.epochs.*greater than 0"),
        ("ppo.epochs=2.5", r"ppo\.epochs.*integer"),
        ("ppo.epochs=many", r"ppo\.epochs.*integer"),
        ("ppo.epochs=", r"ppo\.epochs"),
        ("ppo.gamma=1.5", r"ppo\.gamma.*1"),
        ("ppo.gamma=nan", r"ppo\.gamma"),
        ("ppo.clip_range=-0.1", r"ppo\.clip"),
        ("ppo.clip_range=1:2:3", r"ppo\.clip"),
        ("ppo.learning_rate=fast", r"ppo\.learning_rate"),
        ("network.activation=sine", r"network\.activation.*tanh"),
        ("network.actor_hidden=64,0", r"network\.actor_hidden.*greater"),
        ("network.squash=maybe", r"network\.squash"),
        ("environment.num_envs=0", r"environment\.num_envs"),
        ("random_seed=-1", "random_seed"),
        ("name=Other", "no such setting"),
        ("environment.factory=1", "no such setting"),
        ("environment.atari.stack=2", "no such setting"),
        ("environment.arguments.no.where=2", r"environment\.arguments\.no\.where"),
        ("friends.RewardNormalizer.gamma=0.9", "RewardNormalizer.*RewardClip"),
        ("friends=1", "no such setting"),
    ],
)
def test_a_mistake_is_named(assignment: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        apply_settings(launcher(), [assignment])
    assert len(str(caught.value).splitlines()) <= 2


def test_friends_arguments() -> None:
    before = launcher()
    changed = apply_settings(before, ["friends.KLEarlyStop.target=0.05", "friends.RewardClip.high=2"])
    assert changed.friends == (friend("RewardClip", low=-5.0, high=2), friend("KLEarlyStop", target=0.05))
    assert before == launcher()


def test_several_in_order_and_games() -> None:
    game = validated(
        {**as_values(launcher()), "environment": EnvironmentSettings(id="G-v0", atari=AtariSettings())}
    )
    assert "environment.atari.stack" in setting_names(game)
    changed = apply_settings(game, ["environment.atari.stack=2", "ppo.epochs=3", "ppo.epochs=4"])
    assert changed.environment.atari is not None
    assert (changed.environment.atari.stack, changed.ppo.epochs) == (2, 4)


def test_what_is_not_plain_data_is_kept() -> None:
    def make() -> None: ...

    class Mine: ...

    before = Experiment(
        name="Toy",
        environment=EnvironmentSettings(id="Toy-v0", factory=make),
        friends=(friend(Mine, scale=1),),
    )
    changed = apply_settings(before, ["ppo.epochs=3", "friends.Mine.scale=2"])
    assert changed.environment.factory is make
    assert changed.friends[0].kind is Mine and changed.friends[0].arguments == {"scale": 2}


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ICM", friend("ICM")),
        ("KLEarlyStop:target=0.02", friend("KLEarlyStop", target=0.02)),
        ("RewardClip:low=-1,high=2.5", friend("RewardClip", low=-1, high=2.5)),
        ("my.module:Mine", friend("my.module:Mine")),
        ("my.module:Mine:scale=1", friend("my.module:Mine", scale=1)),
        ("ICM:widths=[64,32],scale=none,on=true", friend("ICM", widths=[64, 32], scale=None, on=True)),
    ],
)
def test_a_friend_in_words(text: str, spec: Any) -> None:
    assert parse_friend(text) == spec


def test_adding_and_removing_friends() -> None:
    before = launcher()
    changed = change_friends(before, ["AdvantageNormalizer", "RewardClip:high=3"], ["KLEarlyStop"])
    assert changed.friends == (friend("RewardClip", low=-5.0, high=3), friend("AdvantageNormalizer"))
    assert before == launcher()
    with pytest.raises(UsageError, match=r"ICM.*RewardClip, KLEarlyStop"):
        change_friends(before, [], ["ICM"])
    with pytest.raises(UsageError, match="name=value"):
        change_friends(before, ["RewardClip:low=1,high"], [])


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a.c": (2, 3)}),
        ({"a": [1, 2]}, {"a": (1, 2)}, {}),  # JSON gives lists back
        ({"a": [1, 2]}, {"a": 3.0}, {"a": ([1, 2], 3.0)}),
        ({"a": 3.0}, {"a": [1, 2]}, {"a": (3.0, [1, 2])}),
        ({"a": []}, {"a": None}, {"a": ([], None)}),
        ({"a": [1, 2]}, {"a": None}, {"a": ([1, 2], None)}),
        ({"a": {"b": 1}}, {"a": None}, {"a": ({"b": 1}, None)}),
        ({}, {"a": 1}, {"a": (None, 1)}),
        ({"a": 1}, {}, {"a": (1, None)}),
    ],
)
def test_differences(old: Any, new: Any, found: Any) -> None:
    assert differences(old, new) == found


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("my.module:Wrapper", "my.module:Wrapper", {}),
        ("my.module:Wrapper()", "my.module:Wrapper", {}),
        ("a/b.py:Wrapper(x=1, y=[2, 3], z=much)", "a/b.py:Wrapper", {"x": 1, "y": [2, 3], "z": "much"}),
    ],
)
def test_calls(text: str, name: str, arguments: dict[str, Any]) -> None:
    assert parse_call(text) == (name, arguments)
    experiment = apply_settings(resolve("CartPole"), [f"environment.wrappers={text},other:Wrapper(a=1,b=2)"])
    assert experiment.environment.wrappers == (text, "other:Wrapper(a=1,b=2)")


def test_a_call_without_names_is_refused() -> None:
    with pytest.raises(UsageError, match="name=value"):
        parse_call("my.module:Wrapper(3)")


def test_friends_are_added_replaced_and_removed() -> None:
    base = Experiment(name="A", environment=EnvironmentSettings(id="CartPole-v1"), friends=(friend("ICM"),))
    more = base.with_friends(friend("KLEarlyStop"), friend("ICM", scale=2.0))
    assert more.friends == (friend("ICM", scale=2.0), friend("KLEarlyStop"))
    assert more.without_friends("ICM").friends == (friend("KLEarlyStop"),)
    with pytest.raises(UsageError, match="no friend 'RND', but ICM"):
        base.without_friends("RND")
