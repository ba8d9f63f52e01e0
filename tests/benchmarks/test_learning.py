"""The whole benchmark on a tiny budget, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import learning, learning_results
from benchmarks.evaluate_run import thin
from benchmarks.learning import Options, make_job
from benchmarks.runs import Changes, Run
from benchmarks.targets import TARGETS
from ppo_and_friends import load_policy
from ppo_and_friends.settings.registry import all_launchers


def test_every_launcher_with_a_target_exists_and_aims_at_it() -> None:
    launchers = {one.name: one for one in all_launchers()}
    assert set(TARGETS) <= set(launchers)
    for name, target in TARGETS.items():
        experiment = launchers[name].experiment()
        assert experiment.num_timesteps <= target.timesteps, name
        assert experiment.reward_threshold == target.ours, name


def test_thinning_keeps_both_ends_and_the_order() -> None:
    rows = [{"timesteps": str(i)} for i in range(1234)]
    thinned = [int(row["timesteps"]) for row in thin(rows, 500)]
    assert len(thinned) == 500 and thinned[0] == 0 and thinned[-1] == 1233
    assert thinned == sorted(set(thinned))
    assert thin(rows[:500], 500) == rows[:500]


def test_changed_settings_need_folders_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learning.main(["--environments", "CartPole", "--set", "ppo.gamma=0.9"]) == 2
    assert "of their own" in capsys.readouterr().err
    elsewhere = ["--results", str(tmp_path)]
    assert learning.main(["--environments", "CartPole", "--set", "ppo.gamma=0.9", *elsewhere]) == 2
    assert learning.main(["--environments", "CartPoole", *elsewhere]) == 2
    assert "CartPole" in capsys.readouterr().err


def test_a_failed_run_is_listed_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    script = f"import sys; print('well'); sys.exit('the disk is full: {tmp_path}/work/x')"
    fails = (sys.executable, "-S", "-c", script)
    monkeypatch.setattr(Run, "command", lambda run, clobber: fails)
    arguments = ["--environments", "CartPole", "--seeds", "1", "2", "--work", str(tmp_path / "work")]
    assert learning.main([*arguments, "--results", str(tmp_path / "results")]) == 1
    failure = json.loads((tmp_path / "results" / "CartPole" / "seed-2" / "failure.json").read_bytes())
    assert failure["error"] == "the disk is full: WORK/x" and failure["exit_status"] == 1
    assert "failed (2)" in capsys.readouterr().out


@pytest.mark.slow
def test_trains_evaluates_reports_ships_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, results = tmp_path / "work", tmp_path / "results"
    changes = ("num_timesteps=2000", "checkpoint_seconds=0")
    arguments = ["--environments", "CartPole", "--seeds", "5", "--episodes", "3"]
    arguments += ["--work", str(work), "--results", str(results)]
    arguments += [part for change in changes for part in ("--set", change)]
    assert learning.main(arguments) == 0
    folder = results / "CartPole" / "seed-5"
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    assert evaluation["episodes"] == len(evaluation["scores"]) == 3
    assert evaluation["mean"] == pytest.approx(sum(evaluation["scores"]) / 3)
    assert 2000 <= evaluation["timesteps"] < 3000
    assert str(tmp_path) not in json.dumps(evaluation)
    curve = (folder / "curve.csv").read_text().splitlines()
    assert 0 < evaluation["training_seconds"] < float(curve[-1].split(",")[2])  # without evaluations
    names = curve[0].split(",")
    assert names[3:] == ["episode_return_mean", "episode_return_mean_100", "Evaluator/score"]
    assert int(curve[-1].split(",")[1]) == evaluation["timesteps"]
    assert (results / "curves.png").exists() and "CartPole" in (results / "summary.md").read_text()

    options = Options(work=work, results=results, episodes=3)
    run = Run.of("CartPole", 5, work, Changes(changes))
    assert make_job(run, options) is None
    more = make_job(run, Options(work=work, results=results, episodes=4))
    assert more is not None and len(more.commands) == 1  # evaluated anew, not trained
    longer = Run.of("CartPole", 5, work, Changes(("num_timesteps=4000",)))
    over = make_job(longer, options)
    assert over is not None and "--clobber" in over.commands[0]
    # A setting that doesn't change what is learned doesn't start it over.
    assert make_job(Run.of("CartPole", 5, work, Changes((*changes, "keep_checkpoints=1"))), options) is None

    monkeypatch.setattr(learning_results, "current_hash", lambda name: None)  # of whatever settings
    assert "CartPole: seed 5 shipped" in learning_results.ship_best("CartPole", work, results)
    shipped = load_policy(results / "policies" / "CartPole")
    assert (shipped.timesteps, shipped.experiment.random_seed) == (evaluation["timesteps"], 5)
