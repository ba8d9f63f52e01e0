"""The campaign of faults: that it finds what is broken, and that its table says so."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults_bytes
from benchmarks.fault_cases import Case, arguments, run_folder, table
from benchmarks.faults import Options, campaign
from ppo_and_friends import TrainedPolicy, load_policy
from tests.command_line import run
from tests.conftest import clean_environment


def test_the_table_counts_what_was_kept() -> None:
    case = Case("a plug is pulled", "all is saved")
    for problem in (None, "one row is missing", None):
        case.judge(problem)
    assert (case.tries, case.kept, case.broken) == (3, 2, ["one row is missing"])
    head, line, row = table([case]).splitlines()
    assert head.split() == ["|", "Case", "|", "Tries", "|", "Promise", "|", "Kept", "|"]
    assert set(line) == {"|", "-"} and len(head) == len(line) == len(row)
    assert row.split("|")[1:5] == [" a plug is pulled ", " 3     ", " all is saved ", " 2    "]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    for timesteps in (faults_bytes.BEGUN, faults_bytes.DONE):
        assert run(*arguments(home, timesteps, *faults_bytes.WITH)).status == 0
    return run_folder(home)


def test_flips_are_refused_or_harmless(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_bytes, "trained", lambda home: trained)
    cases = campaign(Options(rounds=3, seed=5, families=("flips",)))
    assert [case.tries for case in cases] == [24, 6] and not any(case.broken for case in cases)


def test_what_is_loaded_wrong_is_found(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = (load_policy(path) for path in sorted((trained / "checkpoints").glob("0*")))
    changed = load_policy(trained)
    next(iter(changed.agent.tensors().values())).data.view(-1)[0] += 1.0

    def told(loaded: TrainedPolicy) -> str | None:
        monkeypatch.setattr(faults_bytes, "load_policy", lambda where: loaded)
        return faults_bytes._flipped(trained / "progress.csv", trained, [older, newer], random.Random(1))

    assert told(newer) is None
    assert "without a word" in (told(older) or "")
    assert "loaded with other numbers" in (told(changed) or "")


def test_every_file_operation_of_a_checkpoint_is_seen(tmp_path: Path) -> None:
    """The folder, its temporary one, three files, the rename, and ``latest`` are at least seven."""
    folder = str(tmp_path)
    script = f"""
import pathlib, torch
from benchmarks.faults_kills import count_operations
from ppo_and_friends.runs.checkpoint import save_checkpoint
count_operations(pathlib.Path({folder!r}), pathlib.Path({folder!r} + ".count"))
save_checkpoint(pathlib.Path({folder!r}) / "c", 1, {{"w": torch.zeros(3)}}, {{}})
"""
    subprocess.run([sys.executable, "-c", script], env=clean_environment(), check=True)
    assert len(Path(f"{folder}.count").read_bytes()) >= 7
