"""Checkpoints with right checksums and a content that isn't a run's: the previous one is taken instead."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forged import FORGERIES, Forgery, rewrite
from ppo_and_friends import load_policy
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.runs.packed import NEEDED
from ppo_and_friends.studies.pack import pack
from tests.command_line import iterations, latest, run, toy
from tests.toys import FOLDER

OBSERVATIONS = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
WITH = "--with=ObservationNormalizer"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint of three iterations and one of five."""
    home = tmp_path_factory.mktemp("state")
    for timesteps in (300, 640):
        assert run(*toy(home, WITH, timesteps=timesteps)).status == 0
    return home


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture(scope="module")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(trained / FOLDER, tmp_path_factory.mktemp("packed") / "toy.zip", episodes=1)


EACH = pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)


def older(home: Path) -> Path:
    return min((home / FOLDER / "checkpoints").glob("0*"))


RESTORED = [each for each in FORGERIES if each.name.startswith(("tensors", "optimizer"))][2::4]


@pytest.mark.parametrize("forgery", RESTORED, ids=lambda forgery: forgery.name)
def test_training_goes_on_from_the_previous_one_and_says_so(copy: Path, forgery: Forgery) -> None:
    newest, first = latest(copy), older(copy).name
    rewrite(newest.path, forgery.change)
    done = run(*toy(copy, WITH, timesteps=900))
    assert done.status == 0, done.err
    told = " ".join(done.out.split()) + done.err
    assert f"Checkpoint {newest.path} is damaged: " in told and forgery.told in told
    assert f"Falling back to the checkpoint at {int(first)} timesteps, {first}." in told
    assert "resumed after iteration 3" in done.out
    assert latest(copy).timesteps >= 900 and latest(copy).notes == ()
    assert iterations(copy) == list(range(1, latest(copy).state["iteration"] + 1))


@EACH
def test_the_previous_policy_is_loaded_and_tested_with_a_warning(copy: Path, forgery: Forgery) -> None:
    newest, first = latest(copy).path, older(copy)
    expected = load_policy(first)(OBSERVATIONS)
    rewrite(newest, forgery.change)
    if forgery.training_only:
        load_policy(newest)
        return
    with pytest.warns(UserWarning, match="Falling back to") as told:
        policy = load_policy(copy / FOLDER)
    assert any(forgery.told in str(each.message) for each in told)
    assert policy.timesteps == int(first.name) and (policy(OBSERVATIONS) == expected).all()
    # One that is named itself is that one or none.
    with pytest.raises(CheckpointError, match="is damaged"):
        load_policy(newest)


SOME = [
    each
    for each in FORGERIES
    if each.name in ("state: a list", "tensors: a weight is NaN", "tensors: integers for floats")
]


@pytest.mark.parametrize("forgery", SOME, ids=lambda forgery: forgery.name)
def test_where_there_is_no_other_it_is_refused(copy: Path, tmp_path: Path, forgery: Forgery) -> None:
    newest = latest(copy).path
    rewrite(newest, forgery.change)
    shutil.rmtree(older(copy))
    asked = (
        toy(copy, WITH, timesteps=900),
        toy(copy, WITH, "--num_test_runs=1"),
        ["--policy", copy / FOLDER, "--num_test_runs=1"],
        ["--pack", copy / FOLDER],
        toy(tmp_path / "other", WITH, f"--init_from={copy / FOLDER}"),
    )
    for command in asked:
        done = run(*command)
        assert done.status in (1, 2) and forgery.told in done.err, (command, done.err)
        assert len(done.complaint) <= 2
    assert newest.is_dir()


@pytest.mark.parametrize("forgery", SOME, ids=lambda forgery: forgery.name)
def test_a_forged_pack_is_refused(packed: Path, tmp_path: Path, forgery: Forgery) -> None:
    folder = tmp_path / "inside"
    zipfile.ZipFile(packed).extractall(folder)
    rewrite(folder, forgery.change)
    forged = tmp_path / "forged.zip"
    with zipfile.ZipFile(forged, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with pytest.raises(CheckpointError, match=r"forged\.zip is damaged") as caught:
        load_policy(forged)
    assert forgery.told in str(caught.value) and "\n" not in str(caught.value)
    done = run("--policy", forged, "--num_test_runs=1")
    assert done.status == 1 and forgery.told in done.err and len(done.complaint) == 1


def test_init_from_takes_the_previous_one_with_a_warning(copy: Path, tmp_path: Path) -> None:
    rewrite(latest(copy).path, FORGERIES[0].change)
    with pytest.warns(UserWarning, match="Falling back to"):
        done = run(*toy(tmp_path / "other", WITH, f"--init_from={copy / FOLDER}", timesteps=100))
    assert done.status == 0, done.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nowhere"])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
def test_what_is_no_file_is_not_read(copy: Path, name: str, kind: str) -> None:
    path = latest(copy).path / name
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            path.symlink_to("nowhere")
    with pytest.warns(UserWarning, match="Falling back to"):
        assert load_policy(copy / FOLDER).timesteps == int(older(copy).name)


def test_nothing_in_a_pack_leads_elsewhere(packed: Path, tmp_path: Path) -> None:
    """Files with paths are left where they are; links are no files."""
    inside = zipfile.ZipFile(packed)
    wild = tmp_path / "wild.zip"
    with zipfile.ZipFile(wild, "w") as archive:
        for name in NEEDED:
            archive.writestr(name, inside.read(name))
        for name in ("../escaped", f"{tmp_path}/escaped", "checkpoints/../../escaped"):
            archive.writestr(name, "x")
    assert (load_policy(wild)(OBSERVATIONS) == load_policy(packed)(OBSERVATIONS)).all()
    assert not list(tmp_path.parent.rglob("escaped"))
    linked = tmp_path / "linked.zip"
    with zipfile.ZipFile(linked, "w") as archive:
        for name in NEEDED:
            if name == "state.json":
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o120777 << 16  # a symbolic link
                archive.writestr(entry, "/etc/passwd")
            else:
                archive.writestr(name, inside.read(name))
    with pytest.raises(CheckpointError, match=r"linked\.zip is damaged: .*state\.json"):
        load_policy(linked)
