"""Settings of earlier formats become today's, and every name that is answered with exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.runs import settings_hash
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment
from ppo_and_friends.settings.migration import FORMAT, RENAMED, migrated
from ppo_and_friends.settings.other_names import PEERS, todays_name
from ppo_and_friends.settings.overrides import setting_names
from ppo_and_friends.settings.plain import experiment_adapter, experiment_settings
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.settings.schedules import as_schedule
from tests.command_line import read_json

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "results" / "policies").glob("*/experiment.json"))
EXPERIMENT = Experiment(name="Any", environment=EnvironmentSettings(id="CartPole-v1"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_policies_have_settings_of_an_earlier_format_that_still_hold(path: Path) -> None:
    record = read_json(path)
    old = record["experiment"]
    experiment = experiment_adapter().validate_python(migrated(old, record.get("format", 1)))
    assert experiment.ppo.gamma == old["ppo"].get("discount", old["ppo"].get("gamma"))
    assert experiment.ppo.gae_lambda == old["ppo"].get("trace_decay", old["ppo"].get("gae_lambda"))
    assert experiment.network.log_std_init == old["network"].get(
        "initial_log_std", old["network"].get("log_std_init")
    )


def test_todays_settings_are_left_alone_whatever_format_is_said() -> None:
    settings = experiment_settings(EXPERIMENT)
    assert migrated(settings, FORMAT) == migrated(settings, 1) == settings


def test_what_is_migrated_is_not_changed() -> None:
    old: dict[str, Any] = {
        "ppo": {"discount": 0.9},
        "friends": [{"name": "RND", "arguments": {"discount": 0.5}}],
    }
    new = migrated(old)
    assert new == {"ppo": {"gamma": 0.9}, "friends": [{"name": "RND", "arguments": {"gamma": 0.5}}]}
    assert old["ppo"] == {"discount": 0.9} and old["friends"][0]["arguments"] == {"discount": 0.5}


def test_every_name_that_is_answered_with_exists() -> None:
    names = [*setting_names(EXPERIMENT), "environment.arguments"]
    new = [f"{section}.{name}".lstrip(".") for section, pairs in RENAMED.items() for name in pairs.values()]
    for name in (*new, *PEERS.values()):
        if name.startswith("friends."):
            assert name.split(".")[1] in BUILT_IN, name
        else:
            assert name in names, name
    assert todays_name("no_such_thing") is None


def test_results_of_an_earlier_format_count_as_the_launchers_own() -> None:
    """StdClip's and RewardClip's schedules, as they are saved now and as they were."""
    record = read_json(Path(__file__).parent / "fixtures" / "settings_of_an_earlier_format.json")
    today = experiment_settings(resolve("BipedalWalker"))
    assert settings_hash(record["settings"]) == settings_hash(today)
    assert "log_std_init" not in record["settings"]["network"]  # so that this shows something


def test_schedules_move_by_numbers_under_todays_names() -> None:
    rate = {"start": 1.0, "end": None, "shape": "steps", "at": [200], "values": [0.5], "by": "score_mean_100"}
    new = migrated(
        {"ppo": {"learning_rate": rate}, "friends": [{"name": "StdClip", "arguments": {"limit": rate}}]}, 2
    )
    moved = {**rate, "by": "episode_return_mean_100"}
    assert new["ppo"]["learning_rate"] == moved and new["friends"][0]["arguments"]["limit"] == moved
    with pytest.raises(ValueError, match="score_mean_100 is called episode_return_mean_100 now"):
        as_schedule("1e-3,1e-4@score_mean_100>=200")
