"""What is done already, what goes on, and what starts over."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.runs import Changes, Run, policy_digest, sessions_of, settings_hash
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.settings.registry import resolve


def pretend(run: Run, experiment: Experiment, timesteps: int) -> None:
    """Leave behind what a training of ``experiment`` would."""
    run.folder.checkpoints.mkdir(parents=True, exist_ok=True)
    save_experiment(run.folder.path, experiment, ["-e", "CartPole"])
    (run.folder.checkpoints / "latest").write_text(f"{timesteps:012d}-2\n")


def test_the_hash_sees_every_setting_but_the_seed() -> None:
    base = experiment_settings(resolve("CartPole"))
    for name in ("random_seed", "reward_threshold", "checkpoint_seconds"):
        assert settings_hash(base | {name: 7}) == settings_hash(base)
    for changed in (
        base | {"num_timesteps": 61_000},
        base | {"ppo": base["ppo"] | {"gamma": 0.5}},
        base | {"friends": []},
        base | {"environment": base["environment"] | {"num_envs": 7}},
    ):
        assert settings_hash(changed) != settings_hash(base)


def test_what_only_observes_makes_no_other_run() -> None:
    base = experiment_settings(resolve("CartPole"))
    observer = {"name": "Evaluator", "arguments": {"every": 3000, "episodes": 10}}
    assert settings_hash(base | {"friends": [*base["friends"], observer]}) == settings_hash(base)


def test_a_setting_that_came_later_counts_with_its_default() -> None:
    base = experiment_settings(resolve("CartPole"))
    older = json.loads(json.dumps(base))
    del older["ppo"]["value_clip_range"], older["precision"]
    assert settings_hash(older) == settings_hash(base)


def test_the_command_is_the_one_a_user_types(tmp_path: Path) -> None:
    changes = Changes(("ppo.gamma=0.9",), ("KLEarlyStop",), ())
    run = Run.of("CartPole-v1", 3, tmp_path, changes)
    words = run.command()
    assert words[2:] == (
        "-e", "CartPole-v1", "--random_seed", "3", "--state_path", str(tmp_path / "seed-3"),
        "--no_tensorboard", "-q", "--eval_every", "3000", "--eval_episodes", "10",
        "--set", "ppo.gamma=0.9", "--with", "KLEarlyStop",
    )  # fmt: skip
    assert run.experiment.ppo.gamma == 0.9 and run.experiment.random_seed == 3
    with pytest.raises(UsageError, match="no such setting"):
        Run.of("CartPole", 1, tmp_path, Changes(("ppo.nonsense=1",)))


def test_a_new_run_a_half_one_a_whole_one_and_one_of_other_settings(tmp_path: Path) -> None:
    run = Run.of("CartPole", 1, tmp_path, Changes())
    assert (run.stale, run.trained, run.timesteps()) == (False, False, 0)
    pretend(run, run.experiment, 30_000)
    assert (run.stale, run.trained, run.timesteps()) == (False, False, 30_000)
    assert "--clobber" not in run.command()
    pretend(run, run.experiment, 60_168)
    assert (run.stale, run.trained) == (False, True)
    other = Run.of("CartPole", 1, tmp_path, Changes(("ppo.gamma=0.9",)))
    assert (other.stale, other.trained) == (True, False)
    assert other.command()[-1] == "--clobber"


def test_several_policies_are_one_run(tmp_path: Path) -> None:
    run = Run.of("SimpleTag", 1, tmp_path, Changes())
    for name, timesteps in (("adversary", 600_000), ("prey", 100_000)):
        checkpoints = run.folder.path / "policies" / name / "checkpoints"
        (checkpoints / f"{timesteps:012d}").mkdir(parents=True)
        (checkpoints / "latest").write_text(f"{timesteps:012d}\n")
        manifest = {"files": {"tensors.safetensors": {"sha256": name}}}
        (checkpoints / f"{timesteps:012d}" / "manifest.json").write_text(json.dumps(manifest))
    assert run.timesteps() == 700_000
    assert policy_digest(run.folder.path) == hashlib.sha256(b"adversary prey").hexdigest()
    assert policy_digest(run.folder.path / "policies" / "prey") == "prey"
    assert policy_digest(tmp_path) == ""


def test_each_start_is_written_down_until_the_run_starts_over(tmp_path: Path) -> None:
    run = Run.of("CartPole", 1, tmp_path, Changes())
    run.note_start({"commit": "a", "dirty": False})
    pretend(run, run.experiment, 30_000)
    run.note_start({"commit": "b", "dirty": True})
    assert [(one["commit"], one["dirty"], one["timesteps"]) for one in sessions_of(run.folder.path)] == [
        ("a", False, 0),
        ("b", True, 30_000),
    ]
    over = Run.of("CartPole", 1, tmp_path, Changes(("ppo.gamma=0.9",)))
    over.note_start({"commit": "c", "dirty": False})
    assert [one["commit"] for one in sessions_of(over.folder.path)] == ["c"]


def test_a_schedule_of_an_earlier_format_is_the_same_setting() -> None:
    now = experiment_settings(resolve("Hopper"))
    (clip,) = [spec for spec in now["friends"] if spec["name"] == "StdClip"]
    limit = clip["arguments"]["limit"]
    before = json.loads(json.dumps(now))
    # As it was saved in format 1.
    before["friends"] = [
        {"name": "DeviationAnnealing", "arguments": {"start": limit["start"], "end": limit["end"]}}
        if spec["name"] == "StdClip"
        else spec
        for spec in before["friends"]
    ]
    assert settings_hash(before) == settings_hash(now)
    before["friends"][-1]["arguments"]["end"] = 0.3
    assert settings_hash(before) != settings_hash(now)
