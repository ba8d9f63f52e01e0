"""Tuning: the space, trials shared by processes and ranks, and what is left behind."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.api.run import Interrupted
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment, Schedule, friend
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.studies import trials, tuning
from ppo_and_friends.studies.search_space import (
    Dimension,
    check_space,
    default_space,
    load_space,
    own_parameters,
    space_text,
)
from ppo_and_friends.studies.trials import Tuning, trial_experiment
from ppo_and_friends.studies.tuning import open_study
from ppo_and_friends.studies.tuning_results import settings_of
from tests.command_line import SMALL, run
from tests.conftest import ROOT, RunMPI
from tests.toys import NAME

pytest.importorskip("optuna", reason="the extra [tune]")

SPACE = "ppo.learning_rate: {log: [1e-4, 1e-2], text: '{}:0'}\nppo.gamma: [0.9, 0.99]\n"


def arguments(folder: Path, trials: int, *more: str) -> list[str]:
    (folder / "space.yaml").write_text(SPACE)
    space = f"--tune_space={folder / 'space.yaml'}"
    small = ["-e", NAME, "--state_path", str(folder), f"--tune={trials}", "--tune_timesteps=640", *SMALL]
    return [*small, space, *more]


@pytest.mark.parametrize("name", ["CartPole", "Pendulum", "BreakoutPixels"])
def test_the_default_space_holds_the_experiments_own_settings(name: str):
    experiment = resolve(name)
    space = default_space(experiment)
    check_space(experiment, space)
    own = own_parameters(experiment, space)
    # An entropy coefficient of 0 isn't on a logarithmic range: the sampler chooses it.
    assert set(own) >= {each.name for each in space} - {"ppo.entropy_coefficient"}
    changes = settings_of(space, own)
    assert experiment.with_changes(changes).ppo.learning_rate == experiment.ppo.learning_rate
    assert experiment.with_changes(changes).ppo.clip_range == experiment.ppo.clip_range


def test_a_printed_space_can_be_given_in_a_file(tmp_path: Path):
    space = default_space(resolve("CartPole"))
    (tmp_path / "space.yaml").write_text(space_text(space))
    read = load_space(tmp_path / "space.yaml")
    assert space_text(read) == space_text(space)
    assert [(each.name, each.kind, each.text) for each in read] == [
        (each.name, each.kind, each.text) for each in space
    ]


def test_a_dimension_makes_settings():
    rate = Dimension("ppo.learning_rate", "log", (1e-4, 1e-2), "{}:0")
    experiment = resolve("CartPole").with_changes(rate.changes(0.00123456))
    assert experiment.ppo.learning_rate == Schedule(0.001235, 0.0)
    both = Dimension("network.actor_hidden,network.critic_hidden", "choice", ((8,), (16,)))
    assert both.changes([8]) == {"network.actor_hidden": [8], "network.critic_hidden": [8]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ppo.gamma: 0.9", "write a list of values"),
        ("ppo.gamma: {log: [0, 1]}", "write a list of values"),
        ("ppo.gamma: {float: [1, 0]}", "write a list of values"),
        ("ppo.gamma: {float: [0, 1], int: [0, 1]}", "write a list of values"),
        ("ppo.gamma: {float: [0, 1], text: x}", "write a list of values"),
        ("ppo.gamma: {float: [0, 1], text: '{}:{}'}", "write a list of values"),
        ("ppo.gamma: {float: [0, 1], text: '{}{x}'}", "write a list of values"),
        ("ppo.epochs: {int: [1, .inf]}", "write a list of values"),
        ("ppo.gamma: {log: [1, .inf]}", "write a list of values"),
        ("- 3", "holds no search space"),
        ("a: [", "can't be read"),
    ],
)
def test_a_space_that_is_none(text: str, told: str, tmp_path: Path):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(UsageError, match=told):
        load_space(tmp_path / "space.yaml")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--tune_timesteps=10",), "--tune_timesteps is for tuning"),
        (("--tune=3", "--seeds=1-2"), "--tune stands alone"),
        (("--tune=0",), "at least 1 trial"),
        (("--tune=2", "--tune_space=nowhere.yaml"), "can't be read"),
        (("--tune=2", "--jobs=0"), "--jobs: at least 1"),
    ],
)
def test_nonsense_is_refused_in_a_line(more: tuple[str, ...], told: str, tmp_path: Path):
    done = run("-e", "CartPole", "--state_path", tmp_path, *more)
    assert done.status == 2 and told in done.err and len(done.complaint) == 1


def test_a_wrong_space_is_refused_before_anything_is_trained(tmp_path: Path):
    (tmp_path / "space.yaml").write_text("ppo.gama: [0.9, 0.99]")
    done = run(
        "-e", "CartPole", "--state_path", tmp_path, "--tune=2", "--tune_space", tmp_path / "space.yaml"
    )
    assert done.status == 2 and "Did you mean ppo.gamma" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_trials_differ_in_their_seeds_and_are_evaluated_ten_times(tmp_path: Path):
    settings = Tuning(resolve("CartPole"), (), tmp_path, trials=3, timesteps=1000, episodes=4)
    experiment: Experiment = trial_experiment(settings, {"ppo.gamma": 0.5}, number=2)
    assert (experiment.random_seed, experiment.num_timesteps, experiment.ppo.gamma) == (3, 1000, 0.5)
    assert experiment.friends[-1].arguments == {"every": 100, "episodes": 4}


def test_trials_are_counted_over_sessions_and_the_best_becomes_a_launcher(tmp_path: Path):
    more = ("--jobs=1", "--with=KLEarlyStop:target=0.02", "--set=ppo.clip_range=0.3:0.1")
    assert run(*arguments(tmp_path, 2, *more)).status == 0
    done = run(*arguments(tmp_path, 3, *more))
    assert done.status == 0, done.err
    assert "trial 2: " in done.out and "trial 1: " not in done.out  # one more
    (folder,) = tmp_path.glob("*-tuning")
    record = json.loads((folder / "tuning.json").read_text())
    assert len(record["trials"]) == 3
    assert record["best_score"] == max(one["score"] for one in record["trials"] if one["score"] is not None)
    # The first trial has the settings that tuning began with.
    assert record["trials"][0]["settings"] == {"ppo.learning_rate": 5e-4, "ppo.gamma": "0.99"}
    assert (folder / "tuning.html").stat().st_size > 100_000
    (launcher,) = folder.glob("*_tuned.py")
    tuned = resolve(f"{launcher}:tuned")
    assert tuned.ppo.gamma == record["settings"]["ppo.gamma"]
    # What the command changed besides holds for the launcher, too.
    assert tuned.environment.num_envs == 4 and tuned.network.actor_hidden == (16,)
    assert tuned.ppo.clip_range == Schedule(0.3, 0.1)
    assert tuned.friends == (*resolve(NAME).friends, friend("KLEarlyStop", target=0.02))
    other = run(*arguments(tmp_path, 4, "--tune_timesteps=700"))
    assert other.status == 2 and "trials of another timesteps" in other.err and len(other.complaint) == 2
    assert tuned.name.endswith("-tuned") and tuned.ppo.learning_rate.end == 0.0


def test_trials_that_fail_are_told(tmp_path: Path):
    fault = ("--set=environment.arguments.fault=nan_reward", "--set=environment.arguments.at=5")
    done = run(*arguments(tmp_path, 1, "--jobs=1", *fault))
    assert done.status == 2
    assert "No trial was completed: environment 0, step 5, reward: nan" in done.err


@pytest.mark.slow
def test_processes_share_the_trials(tmp_path: Path):
    done = run(*arguments(tmp_path, 4, "--jobs=2"))
    assert done.status == 0, done.err
    record = json.loads(next(tmp_path.glob("*-tuning/tuning.json")).read_text())
    assert [one["number"] for one in record["trials"]] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.mpi
def test_groups_of_ranks_share_the_trials(run_mpi: RunMPI, tmp_path: Path):
    done = run_mpi(4, [str(ROOT / "main.py"), *arguments(tmp_path, 4, "--group=2")], timeout=100)
    assert done.returncode == 0, done.stderr
    record = json.loads(next(tmp_path.glob("*-tuning/tuning.json")).read_text())
    assert [one["number"] for one in record["trials"]] == [0, 1, 2, 3]
    assert all(one["state"] in ("complete", "pruned") for one in record["trials"])


def test_a_trial_that_was_interrupted_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    space = (Dimension("ppo.gamma", "choice", (0.9, 0.99)),)
    asked = Tuning(resolve("CartPole"), space, tmp_path, trials=1, timesteps=1000)
    seen = []

    class Stopped:
        def __init__(self, experiment: Experiment, **_: object) -> None:
            seen.append(experiment.ppo.gamma)
            self.experiment, self.timesteps = experiment, 0

        def __enter__(self) -> None:
            run: Any = self
            raise Interrupted(run, 143)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(trials, "Run", Stopped)
    for _ in range(2):
        with pytest.raises(Interrupted):
            tuning.tune(asked)
    # The experiment's own settings, and they again: neither session's trial counts.
    assert seen == [resolve("CartPole").ppo.gamma] * 2
    states = [trial.state.name for trial in open_study(asked).trials]
    assert states == ["FAIL", "FAIL", "WAITING"]
    with pytest.raises(KeyboardInterrupt, match="CartPole stopped at 0 timesteps") as told:
        tuning._work(asked, 0, datetime.now())
    assert type(told.value) is KeyboardInterrupt  # which another process can be sent


def test_the_storage_is_one_file_that_opens_again(tmp_path: Path):
    settings = Tuning(resolve("CartPole"), default_space(resolve("CartPole")), tmp_path, 1, 1000)
    study = open_study(settings)
    trial = study.ask()
    study.tell(trial, 1.0)
    assert open_study(settings, worker=1).best_value == 1.0
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["journal.log"]
