"""Parts of one's own by name: found in the current folder, in files, by entry points; mistakes are named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ppo_and_friends import evaluate, launcher_experiment, load_policy, train
from ppo_and_friends.common import plugins
from ppo_and_friends.common.objects import resolve_object
from ppo_and_friends.errors import IncompatibleState, UsageError
from ppo_and_friends.friends.catalog import find_friend
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.settings.experiment import friend
from tests.api.test_run import small
from tests.command_line import SMALL, run
from tests.conftest import ROOT

TOY = "from tests.toys import Toy\n"
MODEL = (ROOT / "docs" / "examples" / "my_model.py").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_modules_of_the_current_folder_are_found(folder: Path) -> None:
    write(folder / "own_things.py", "class Thing:\n    class Inner: pass\n")
    assert resolve_object("own_things:Thing", "thing").__name__ == "Thing"
    assert resolve_object("own_things:Thing.Inner", "thing").__name__ == "Inner"
    # What is found without the folder stays what it is.
    write(folder / "json.py", "1 / 0\n")
    assert resolve_object("json:loads", "thing") is sys.modules["json"].loads


def test_files_are_modules_of_their_own_name(folder: Path) -> None:
    write(folder / "a" / "own_part.py", "import own_helper\nvalue = own_helper.value\n")
    write(folder / "a" / "own_helper.py", "value = [1]\n")
    write(folder / "b" / "own_part.py", "value = [2]\n")
    first = resolve_object("a/own_part.py:value", "value")
    assert first == [1] and resolve_object(f"{folder}/a/own_part.py:value", "value") is first
    assert resolve_object("own_part:value", "value") is first
    other = resolve_object("b/own_part.py:value", "value")
    assert other == [2] and resolve_object("b/own_part.py:value", "value") is other


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Thing", "must be written as module:name or path/to/file.py:name"),
        ("no_such_module_:Thing", "No module named 'no_such_module_'"),
        ("missing.py:Thing", "no such file: "),
        ("broken.py:Thing", r"ValueError: no wheels \(broken.py, line 2\)"),
        ("broken:Thing", r"ValueError: no wheels \(broken.py, line 2\)"),
        ("typo.py:Thing", "SyntaxError: "),
        ("fine.py:Thinq", "fine.py has no 'Thinq'. Did you mean Thing?"),
        ("fine:Thing.Innner", "fine has no 'Thing.Innner'"),
    ],
)
def test_what_cant_be_had_is_said_in_a_line(name: str, said: str, folder: Path) -> None:
    write(folder / "broken.py", "import json\nraise ValueError('no\\nwheels')\n")
    write(folder / "typo.py", "def f(:\n")
    write(folder / "fine.py", "class Thing: pass\n")
    with pytest.raises(UsageError, match=said) as told:
        resolve_object(name, "thing")
    assert f"thing {name!r}" in str(told.value) and "\n" not in str(told.value)


def test_friends_and_registered_ids_beside_the_command(folder: Path) -> None:
    text = TOY + "import gymnasium\ngymnasium.register('OwnToy-v0', entry_point=Toy, max_episode_steps=7)\n"
    write(folder / "own_robot.py", text + "class OwnToy(Toy): pass\n")
    write(folder / "own_friend.py", "from ppo_and_friends.friends import Friend\nclass Quiet(Friend): pass\n")
    done = run("-e", "own_robot:OwnToy-v0", "--with", "own_friend:Quiet", "--num_timesteps=100", *SMALL)
    assert (done.status, done.err) == (0, "")
    tested = run("-e", "own_robot.py:OwnToy-v0", "--num_test_runs=1")
    assert (tested.status, tested.err) == (0, "")  # the same run's folder, and its saved settings
    assert launcher_experiment("own_robot:OwnToy-v0").environment.id == "own_robot:OwnToy-v0"
    # An attribute goes before an id without its version: nobody's limit of 7 steps holds for the class.
    lengths = evaluate(lambda _: 1, 2, environment="own_robot:OwnToy").lengths
    assert lengths.tolist() == [20, 20]
    assert evaluate(lambda _: 1, 2, environment="own_robot:OwnToy-v0").lengths.tolist() == [7, 7]
    assert evaluate(lambda _: 1, 1, environment="own_robot.py:OwnToy-v0").lengths.tolist() == [7]


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
@pytest.mark.parametrize("name", ["own_env:Own", "own_env:make", "own_env.py:Own"])
def test_environments_without_registration(name: str, backend: str, folder: Path) -> None:
    write(folder / "own_env.py", TOY + "class Own(Toy): pass\ndef make(size=3): return Own(size=size)\n")
    changes = {"environment.backend": backend, "environment.arguments.size": 5}
    experiment = small(name, 200, **changes)
    result = train(experiment, folder / "run", verbosity=-1)
    policy = load_policy(folder / "run")
    assert result.timesteps >= 200 and policy.observation_space.shape == (5,)
    assert policy.experiment == experiment and evaluate(policy, 2).lengths.tolist() == [20, 20]
    assert experiment.name in ("own_env-Own", "own_env-make")


LAUNCHERS = """
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
from tests.toys import Toy
import gymnasium

def good():
    return Experiment(name="Good", environment=EnvironmentSettings(id="CartPole-v1"), num_timesteps=100)

ready = good().with_changes(num_envs=3)

def bad():
    raise LookupError("no such robot")

def needy(what):
    return good()

def wrong():
    return 3

def misnamed():
    return Experiment(name="../up", environment=EnvironmentSettings(id="CartPole-v1"))

class Other: pass
number = 5

def broken_environment(flag=False):
    return Toy(no_such_argument=flag)
"""


@pytest.mark.parametrize("place", ["own_launchers", "own_launchers.py", "./own_launchers.py"])
def test_launchers_from_anywhere(place: str, folder: Path) -> None:
    write(folder / "own_launchers.py", LAUNCHERS)
    assert launcher_experiment(f"{place}:good").name == "Good"
    assert launcher_experiment(f"{place}:ready").environment.num_envs == 3
    done = run("-e", f"{place}:good", *SMALL)
    assert (done.status, done.err) == (0, "") and (
        folder / "saved_states" / "Good" / "progress.csv"
    ).is_file()
    assert run("-e", f"{place}:ready", "--num_test_runs=1").status == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad", "own_launchers.py:bad failed: LookupError: no such robot (own_launchers.py, line "),
        ("needy", "own_launchers.py:needy(what) can't be called with no arguments: give them by --set"),
        ("wrong", "own_launchers.py:wrong is a int, not an Experiment, an environment"),
        ("Other", "own_launchers.py:Other is a Other, not an Experiment"),
        ("number", "own_launchers.py:number is a int, not an Experiment"),
        ("misnamed", "experiment name '../up': use letters"),
        (
            "goood",
            "unknown environment 'own_launchers.py:goood'. own_launchers.py has no 'goood'. Did you mean",
        ),
        ("broken_environment", "no_such_argument"),
    ],
)
def test_launchers_that_fail_are_named_in_two_lines(name: str, said: str, folder: Path) -> None:
    write(folder / "own_launchers.py", LAUNCHERS)
    done = run("-e", f"own_launchers.py:{name}")
    assert (done.status, done.out) == (2, "") and len(done.complaint) <= 2 and said in done.err, done.err
    assert not (folder / "saved_states").exists()


def test_a_model(folder: Path) -> None:
    write(folder / "own_model.py", MODEL)
    experiment = small(timesteps=300, **{"network.model": "own_model:Residual"})
    torch.manual_seed(0)
    first = train(experiment, folder / "run", verbosity=-1)
    torch.manual_seed(1)
    second = train(experiment, verbosity=-1)
    policy = load_policy(folder / "run")
    assert type(policy.agent.network).__name__ == "Residual" and policy.experiment == experiment
    # The first weights follow from the run's seed, not from torch's generator, which is left alone.
    assert torch.initial_seed() == 1
    for name, tensor in second.policy().agent.tensors().items():
        assert torch.equal(tensor, policy.agent.tensors()[name])
    assert evaluate(policy, 3).returns.tolist() == evaluate(first.policy(), 3).returns.tolist()
    with pytest.raises(IncompatibleState, match=r"network\.model is None \(saved: 'own_model:Residual'\)"):
        train(small(timesteps=600), folder / "run", verbosity=-1)
    assert isinstance(train(small(timesteps=100), verbosity=-1).policy().agent.network, ActorCritic)


@pytest.mark.parametrize("spec", ["PopArt", "SplitObservations", "StateDependentExploration", "StdClip"])
def test_friends_of_the_built_in_network_refuse_a_model(spec: str, folder: Path) -> None:
    write(folder / "own_model.py", MODEL)
    arguments: dict[str, Any] = {"SplitObservations": {"exteroceptive": [0]}}.get(spec, {})
    experiment = small("Pendulum", **{"network.model": "own_model:Residual"})
    with pytest.raises(UsageError, match=f"{spec} modifies the built-in network.*model Residual"):
        train(replace(experiment, friends=(friend(spec, **arguments),)), verbosity=-1).finish()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("class Residual(Model)", "class Residual(nn.Module)"),
            "is not a model: it must be a class derived",
        ),
        (("return self.policy_head(features), ", "return "), r"forward must return \(policy parameters"),
        (("len(self.streams))", "3)"), r"value outputs are \[2, 3\] for 2 observations, not \[2, 1\]"),
        (("features = self.inputs", "features = self.output"), r"AttributeError.*\(own_model.py, line"),
    ],
)
def test_models_that_dont_fit_are_refused_before_training(
    change: tuple[str, str], said: str, folder: Path
) -> None:
    assert change[0] in MODEL
    write(folder / "own_model.py", MODEL.replace(*change))
    with pytest.raises(UsageError, match=said):
        train(small(**{"network.model": "own_model:Residual"}), verbosity=-1).finish()


REPORTERS = """
from ppo_and_friends.reporting.reporter import SilentReporter

class Count(SilentReporter):
    def __init__(self, folder):
        self.path = folder / "count.txt"
    def iteration(self, report):
        with open(self.path, "a") as file:
            file.write(f"{report.iteration}\\\\n")

class Failing(SilentReporter):
    def __init__(self, folder): pass
    def iteration(self, report):
        raise RuntimeError("no ink")

class Unmade(SilentReporter):
    def __init__(self, folder):
        raise RuntimeError("no paper")
"""


def test_reporters(folder: Path) -> None:
    write(folder / "own_reporter.py", REPORTERS.replace("\\\\n", "\\n"))
    command = ("-e", "CartPole", "--num_timesteps=600", *SMALL)
    done = run(*command, "--report_to=own_reporter:Failing", "--report_to=own_reporter.py:Count")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("Failing failed (RuntimeError: no ink); training goes on without it") == 1
    counted = (folder / "saved_states" / "CartPole" / "count.txt").read_text().split()
    assert counted == [str(index) for index in range(1, 6)]
    for name, said in [
        ("own_reporter:Unmade", "RuntimeError: no paper (own_reporter.py, line "),
        ("own_reporter:Unknown", "has no 'Unknown'. Did you mean"),
        ("json:loads", "is not a reporter: it must be a class derived"),
        ("Nobody", "There is no reporter 'Nobody'."),
    ]:
        done = run(*command, "--state_path=other", f"--report_to={name}")
        assert done.status == 2 and len(done.complaint) <= 2 and said in done.err, done.err


def test_entry_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "own_model.py", MODEL)
    write(folder / "own_friend.py", "from ppo_and_friends.friends import Friend\nclass Quiet(Friend): pass\n")

    def broken() -> Any:
        raise ImportError("no cheese")

    def of(group: str) -> list[Any]:
        return {
            "ppo_and_friends.models": [
                SimpleNamespace(
                    name="Skip", value="v", load=lambda: resolve_object("own_model:Residual", "x")
                )
            ],
            "ppo_and_friends.friends": [
                SimpleNamespace(name="Hush", value="v", load=lambda: resolve_object("own_friend:Quiet", "x")),
                SimpleNamespace(name="Bad", value="cheese:Bad", load=broken),
            ],
        }.get(group, [])

    monkeypatch.setattr(plugins, "entry_points", lambda group: of(group))
    trained = train(small(timesteps=100, **{"network.model": "Skip"}), verbosity=-1)
    assert type(trained.policy().agent.network).__name__ == "Residual"
    assert find_friend("Hush").__name__ == "Quiet"
    with pytest.raises(
        UsageError, match=r"friend 'Bad' \(cheese:Bad\) can't be imported: ImportError: no ch"
    ):
        find_friend("Bad")
    with pytest.raises(UsageError, match=r"There is no model 'Skipp'\. Did you mean Skip\?"):
        plugins.find_part("Skipp", "model")
