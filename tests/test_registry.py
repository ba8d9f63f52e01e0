from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ppo_and_friends.common import plugins
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings import registry
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
from ppo_and_friends.settings.registry import all_launchers, launcher, resolve

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    all_launchers()
    before, loaded = dict(registry._launchers), list(registry._loaded)
    yield
    registry._launchers.clear()
    registry._launchers.update(before)
    registry._loaded[:] = loaded


@pytest.mark.parametrize("name", ["Humanoid", "humanoid", "HUMANOID", "Humanoid-v5"])
def test_by_name_and_by_id(name: str) -> None:
    assert resolve(name).name == "Humanoid"


def test_of_several_launchers_with_one_id_the_first_is_found() -> None:
    assert resolve("BreakoutNoFrameskip-v4").name == "BreakoutPixels"
    assert resolve("breakoutram").environment.atari.observation == "ram"  # type: ignore[union-attr]


def test_another_version_is_another_environment() -> None:
    old = resolve("Humanoid-v4")
    assert (old.name, old.environment.id) == ("Humanoid-v4", "Humanoid-v4")


def test_any_registered_id_gets_a_generic_launcher() -> None:
    lake = resolve("FrozenLake-v1")
    assert (lake.name, lake.environment.num_envs) == ("FrozenLake-v1", 16)
    assert "ObservationNormalizer" not in [friend.name for friend in lake.friends]  # it is one-hot
    blackjack = resolve("Blackjack-v1")
    assert "ObservationNormalizer" not in [friend.name for friend in blackjack.friends]
    reacher = resolve("Reacher-v5")
    assert "ObservationNormalizer" in [friend.name for friend in reacher.friends]
    assert resolve("Reacher").environment.id == "Reacher-v5"  # the newest, and it says so


@pytest.mark.parametrize(
    ("id", "name", "frame_skip", "sticky"),
    [
        ("ALE/Pong-v5", "ALE-Pong-v5", 4, 0.25),
        ("PongNoFrameskip-v4", "PongNoFrameskip-v4", 4, 0.0),
        ("PongNoFrameskip-v0", "PongNoFrameskip-v0", 4, 0.25),
    ],
)
def test_atari_ids_keep_their_semantics(id: str, name: str, frame_skip: int, sticky: float) -> None:
    experiment = resolve(id)
    atari = experiment.environment.atari
    assert atari is not None and experiment.name == name
    assert (atari.observation, atari.frame_skip) == ("pixels", frame_skip)
    assert atari.repeat_action_probability == sticky


def test_random_frame_skips_stay_random() -> None:
    assert resolve("Pong-v4").environment.atari is None


def test_a_module_that_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('MyEnv-v0', entry_point=PendulumEnv, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    experiment = resolve("my_module:MyEnv-v0")
    assert (experiment.name, experiment.environment.id) == ("my_module-MyEnv-v0", "my_module:MyEnv-v0")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("CartPol", "CartPole"), ("Humanoid-v9", "Humanoid"), ("bipedalwalkr", "BipedalWalker")],
)
def test_an_unknown_name_lists_three_near_ones(name: str, nearest: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve(name)
    text = str(raised.value)
    assert raised.value.exit_code == 2 and "\n" not in text
    assert repr(name) in text and nearest in text and text.count(",") == 2


def test_modules_that_fail_are_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_broken_module:MyEnv-v0", "no_such_module:MyEnv-v0", ":x", "a::b"):
        with pytest.raises(UsageError, match="can't import"):
            resolve(name)


def test_a_launcher_in_ten_lines() -> None:
    @launcher("Lake", id="FrozenLake-v1", spaces="16 -> Discrete(4)")
    def lake() -> Experiment:
        return Experiment(
            name="Lake",
            environment=EnvironmentSettings(id="FrozenLake-v1", arguments={"is_slippery": False}),
            num_timesteps=50_000,
        )

    assert resolve("lake") == resolve("FrozenLake-v1") == lake()
    assert all_launchers()[-1].name == "Lake"


def test_a_taken_bad_or_differing_name_is_refused() -> None:
    with pytest.raises(UsageError, match="'cartpole' is taken by"):
        launcher("cartpole", id="CartPole-v1")(lambda: resolve("CartPole"))
    for bad in ("", "a/b", "../up", "-x"):
        with pytest.raises(UsageError, match="letters, digits"):
            launcher(bad, id="CartPole-v1")
    launcher("Other", id="CartPole-v1")(lambda: resolve("CartPole"))
    with pytest.raises(UsageError, match=r"launcher Other .* builds an experiment called CartPole"):
        resolve("Other")


def test_entry_points_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        launcher("ThirdParty", id="CartPole-v1")(lambda: resolve("CartPole"))

    def broken() -> None:
        raise ImportError("no module named cheese")

    points = [
        SimpleNamespace(name="good", value="a", load=load),
        SimpleNamespace(name="bad", value="b", load=broken),
    ]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: points if group == "ppo_and_friends.launchers" else []
    )
    registry._loaded.clear()
    with pytest.warns(UserWarning, match=r"launchers of bad \(b\) can't be loaded: .*cheese"):
        names = [known.name for known in all_launchers()]
    assert "ThirdParty" in names and "CartPole" in names


def test_listing_imports_nothing_heavy() -> None:
    program = (
        "import sys; from ppo_and_friends.settings.registry import all_launchers, resolve; "
        "[known.experiment() for known in all_launchers()]; resolve('CartPole'); "
        "print([m for m in ('torch', 'gymnasium', 'envpool', 'numpy', 'ale_py') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
