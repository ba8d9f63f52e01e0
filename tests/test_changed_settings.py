"""Changed settings: what defines a run is refused on a resume, the rest is said and kept as a history."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ppo_and_friends.errors import IncompatibleState, UsageError
from ppo_and_friends.friends.catalog import BUILT_IN, find_friend
from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    PPOSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.settings.flat import WATCHING, argument_of, differing, flatten, friend_of, words
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.settings.run_names import MOST_CHARACTERS, run_name
from tests.command_line import latest, read_json, run, toy
from tests.toys import FOLDER

CHANGES = "num_envs=4-rollout_timesteps=128-minibatch_size=64-epochs=2-actor_hidden=16-critic_hidden=16"
"""What ``toy`` changes, in the name of a run."""

WATCHER = "--with=Evaluator:every=100,episodes=1"


def history(path: Path, folder: str = FOLDER) -> list[dict[str, object]]:
    return list(read_json(path / folder / "experiment.json")["history"])


DEFINING = [
    ("--random_seed=2", "random_seed is 2 (the run has 1)"),
    ("--num_envs=8", "environment.num_envs is 8 (the run has 4)"),
    ("--set=ppo.gamma=0.5", "ppo.gamma is 0.5 (the run has 0.99)"),
    ("--set=ppo.clip_range=0.3:0", "ppo.clip_range is 0.3:0 (the run has 0.2:0)"),
    ("--set=environment.max_episode_steps=9", "environment.max_episode_steps is 9 (the run has none)"),
    ("--with=RewardScale:factor=2", "RewardScale's factor is 2 (the run has 3)"),
    ("--without=RewardScale", "RewardScale is missing"),
    ("--with=GradientClip", "GradientClip is new"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained")
    assert (
        run(*toy(path, "--set=ppo.clip_range=0.2:0", "--with=RewardScale:factor=3", timesteps=200)).status
        == 0
    )
    return path


@pytest.mark.parametrize(("change", "said"), DEFINING)
@pytest.mark.parametrize("timesteps", [200, 600], ids=["already trained", "more to train"])
def test_what_defines_the_run_is_refused(change: str, said: str, timesteps: int, trained: Path) -> None:
    before = (latest(trained).path, (trained / FOLDER / "experiment.json").read_bytes())
    given = [] if "without" in change else ["--with=RewardScale:factor=3"]
    if "without" in change:
        change = "--set=ppo.clip_range=0.2:0"  # the same as before; the friend isn't asked for
    done = run(*toy(trained, "--set=ppo.clip_range=0.2:0", *given, change, timesteps=timesteps))
    assert (done.status, done.out) == (2, "")
    assert said in done.err and len(done.complaint) == 2
    assert all(option in done.err for option in ("--run_name", "--clobber", "--accept_changes"))
    assert before == (latest(trained).path, (trained / FOLDER / "experiment.json").read_bytes())


def test_seeds_in_a_loop_are_not_one_run(tmp_path: Path) -> None:
    """What is refused in one folder is three runs with ``--run_name``."""
    for seed in (1, 2, 3):
        arguments = toy(tmp_path, f"--random_seed={seed}", timesteps=100)
        assert run(*arguments).status == (0 if seed == 1 else 2)
        done = run(*arguments, "--run_name")
        assert done.status == 0 and f"--run_name {CHANGES}-seed={seed} --num_test_runs" in done.out
        assert run(*arguments, "--run_name", "s{seed}").status == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        FOLDER, *(f"{FOLDER}-{name}{seed}" for seed in (1, 2, 3) for name in (f"{CHANGES}-seed=", "s"))
    }  # fmt: skip
    assert read_json(tmp_path / f"{FOLDER}-s3" / "experiment.json")["experiment"]["random_seed"] == 3


def test_the_hint_names_the_run(tmp_path: Path) -> None:
    arguments = toy(tmp_path, "--run_name", "my {seed}", timesteps=100)
    done = run(*arguments)
    watch = next(line for line in done.out.splitlines() if line.startswith("Watch it:"))
    command = shlex.split(watch.partition("main.py")[2].partition("--render")[0])
    assert run(*command).status == 0
    assert (tmp_path / f"{FOLDER}-my_1" / "test_scores.json").is_file()


def test_what_may_change_is_said_and_kept(tmp_path: Path) -> None:
    first = toy(tmp_path, "--set=ppo.learning_rate=1e-3:0", timesteps=200)
    assert run(*first).status == 0
    begun = latest(tmp_path).timesteps
    second = toy(tmp_path, "--set=ppo.learning_rate=1e-3:1e-4:log", WATCHER, timesteps=600)
    done = run(*second)
    assert done.status == 0, done.err
    for said in (
        "Changed: num_timesteps is 600 (the run has 200)",
        "Changed: ppo.learning_rate is 0.001:0.0001:log (the run has 0.001:0)",
        "Changed: Evaluator is new",
    ):
        assert said in done.out
    assert [(entry["timesteps"], entry["command_line"], entry["ranks"]) for entry in history(tmp_path)] == [
        (0, first, 1),
        (begun, second, 1),
    ]
    assert history(tmp_path)[0]["changes"] == {}
    assert history(tmp_path)[1]["changes"] == {
        "num_timesteps": [200, 600],
        "ppo.learning_rate": ["0.001:0", "0.001:0.0001:log"],
        "friends.Evaluator": [None, "yes"],
    }


def test_changes_that_are_accepted(tmp_path: Path) -> None:
    run(*toy(tmp_path, timesteps=100))
    begun = latest(tmp_path).timesteps
    done = run(*toy(tmp_path, "--random_seed=5", "--accept_changes", timesteps=300))
    assert done.status == 0 and "Changed: random_seed is 5 (the run has 1)" in done.out
    assert history(tmp_path)[-1]["timesteps"] == begun
    assert history(tmp_path)[-1]["changes"] == {"num_timesteps": [100, 300], "random_seed": [1, 5]}
    # From now on they are the run's.
    assert run(*toy(tmp_path, "--random_seed=5", timesteps=400)).status == 0
    assert run(*toy(tmp_path, timesteps=500)).status == 2
    # A run that starts over has no past.
    assert run(*toy(tmp_path, "--clobber", timesteps=100)).status == 0
    assert len(history(tmp_path)) == 1


def test_a_session_that_saved_nothing_is_no_history(tmp_path: Path) -> None:
    run(*toy(tmp_path, timesteps=100))
    broken = toy(tmp_path, "--with=tests.toys:Broken", "--accept_changes", timesteps=300)
    assert run(*broken).status == 1
    assert "friends.tests.toys:Broken" in str(history(tmp_path)[-1]["changes"])
    assert run(*toy(tmp_path, timesteps=300)).status == 0  # what is saved was trained without it
    assert [entry["changes"] for entry in history(tmp_path)] == [{}, {"num_timesteps": [100, 300]}]


def test_from_python(tmp_path: Path) -> None:
    from ppo_and_friends import launcher_experiment, train

    small = {"ppo.rollout_timesteps": 64, "ppo.minibatch_size": 64, "ppo.epochs": 1}
    experiment = launcher_experiment("CartPole").with_changes(small, num_timesteps=64, num_envs=2)
    quiet = {"verbosity": -1, "tensorboard": False}
    train(experiment, tmp_path, **quiet)  # type: ignore[arg-type]
    other = experiment.with_changes({"ppo.gamma": 0.9}, num_timesteps=200)
    with pytest.raises(IncompatibleState, match=r"ppo\.gamma is 0\.9 \(the run has 0\.\d+\)"):
        train(other, tmp_path, **quiet)  # type: ignore[arg-type]
    assert train(other, tmp_path, accept_changes=True, **quiet).timesteps >= 200  # type: ignore[arg-type]


def test_the_friends_that_only_watch_are_named_once() -> None:
    assert {name for name in BUILT_IN if find_friend(name).only_watches} == set(WATCHING)


def experiment(**changes: object) -> Experiment:
    return Experiment(name="Toy", environment=EnvironmentSettings(id="Toy-v0"), **changes)  # type: ignore[arg-type]


PLAIN = experiment(friends=(friend("KLEarlyStop", target=0.02), friend("RewardNormalizer")))

NAMES = [
    ("", PLAIN, "Toy-seed=1"),
    ("", PLAIN.with_changes({"ppo.gamma": 0.9}, random_seed=3, num_timesteps=7), "Toy-gamma=0.9-seed=3"),
    ("", PLAIN.with_changes({"network.actor_hidden": [8, 8]}), "Toy-actor_hidden=8,8-seed=1"),
    ("", PLAIN.with_changes({"ppo.clip_range": "0.2:0"}), "Toy-clip_range=0.2_0-seed=1"),
    ("{changes}", PLAIN.with_changes({"friends.KLEarlyStop.target": 0.1}), "Toy-KLEarlyStop.target=0.1"),
    (
        "{changes}",
        experiment(friends=(friend("KLEarlyStop", target=0.02), friend("my.module:Mine", rate=2))),
        "Toy-no_RewardNormalizer-Mine.rate=2",
    ),
    ("gamma {ppo.gamma} of {launcher}/{seed}", PLAIN, "Toy-gamma_0.99_of_Toy_1"),
    ("Toy-mine", PLAIN, "Toy-mine"),
    ("Toys", PLAIN, "Toy-Toys"),
    ("../../x", PLAIN, "Toy-_.._x"),
]


@pytest.mark.parametrize(("template", "changed", "name"), NAMES)
def test_names_of_runs(template: str, changed: Experiment, name: str) -> None:
    assert run_name(template, PLAIN, changed) == name


def test_names_that_cant_be() -> None:
    with pytest.raises(UsageError, match=r"there is no \{sed\}"):
        run_name("{sed}", PLAIN, PLAIN)
    long = [run_name("x" * 300 + end, PLAIN, PLAIN) for end in "ab"]
    assert {len(name) for name in long} == {MOST_CHARACTERS} and long[0] != long[1]


def test_differences_in_words() -> None:
    one = flatten(experiment_settings(PLAIN))
    other = flatten(
        experiment_settings(
            experiment(
                ppo=PPOSettings(clip_range=linear(0.1), learning_rate=Schedule(1e-3)),
                friends=(friend("SegmentLength", steps=2), friend("KLEarlyStop", target=0.1)),
            )
        )
    )
    names = differing([one, other])
    assert words(one, names, [one, other]) == [
        "learning_rate 0.0003", "clip_range 0.2", "KLEarlyStop target 0.02", "+RewardNormalizer"
    ]  # fmt: skip
    assert words(other, names, [one, other]) == [
        "learning_rate 0.001", "clip_range 0.1:0", "KLEarlyStop target 0.1", "+SegmentLength steps 2"
    ]  # fmt: skip


def test_friends_of_modules_and_files() -> None:
    for name in ("KLEarlyStop", "my.module:Mine", "path/to/file.py:Mine"):
        assert friend_of(f"friends.{name}") == friend_of(f"friends.{name}.rate") == name
        assert (argument_of(f"friends.{name}"), argument_of(f"friends.{name}.rate")) == ("", "rate")
    assert friend_of("ppo.gamma") == ""
