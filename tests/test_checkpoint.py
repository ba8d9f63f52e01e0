"""Checkpoints: exact round trips, and every way one can be damaged or fail to be written."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ppo_and_friends.common import atomic_files
from ppo_and_friends.distributed.replication import assert_replicated, bits_digest
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import CheckpointError, ReplicationError, UsageError
from ppo_and_friends.runs import checkpoint
from ppo_and_friends.runs.checkpoint import load_latest, save_checkpoint
from ppo_and_friends.runs.saved_experiment import load_experiment, save_experiment
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, friend
from ppo_and_friends.settings.plain import experiment_settings
from tests.conftest import clean_environment


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), value), "count": torch.tensor(int(value))}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def loaded(folder: Path) -> checkpoint.Checkpoint:
    found = load_latest(folder)
    assert found is not None
    return found


def test_round_trip_of_views_of_one_buffer(tmp_path: Path) -> None:
    flat = torch.randn(10, dtype=torch.float64)
    tensors = {
        "view": flat[2:8].view(2, 3),
        "overlap": flat[:5],
        "transposed": flat[:6].view(2, 3).T,
        "parameter": torch.nn.Parameter(torch.tensor([math.nan, -0.0, math.inf])),
        "scalar": torch.tensor(2**62),
        "empty": torch.zeros(0, 3),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(3, dtype=torch.uint8),
    }
    state = {
        "progress": {"timesteps": 12},
        "text": "é",
        "rate": np.float32(0.5),
        "rows": np.arange(3),
        "nan": math.nan,
    }
    path = save_checkpoint(
        tmp_path / "a" / "b", 12, tensors, state, {"world_size": 3, "experiment": {"x": [1]}}
    )
    found = loaded(tmp_path / "a" / "b")
    assert found.path == path and found.timesteps == 12 and found.notes == ()
    for name, tensor in tensors.items():
        again = found.tensors[name]
        assert again.dtype == tensor.dtype and again.shape == tensor.shape
        assert again.contiguous().numpy().tobytes() == tensor.detach().contiguous().numpy().tobytes()
    assert found.state["progress"] == {"timesteps": 12} and found.state["text"] == "é"
    assert found.state["rate"] == 0.5 and found.state["rows"] == [0, 1, 2] and math.isnan(found.state["nan"])
    assert found.manifest["world_size"] == 3 and found.manifest["experiment"] == {"x": [1]}
    assert found.manifest["versions"]["torch"].startswith(torch.__version__.split("+")[0])


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
    st.floats(),
    st.integers(0, 10**15),
)
def test_round_trip_is_exact_to_the_bit(array: np.ndarray, number: float, timesteps: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        save_checkpoint(folder, timesteps, {"a": torch.from_numpy(np.array(array))}, {"n": number})
        found = loaded(folder)
        assert found.tensors["a"].numpy().tobytes() == array.tobytes() and found.timesteps == timesteps
        assert found.state["n"] == number or (math.isnan(number) and math.isnan(found.state["n"]))
    finally:
        shutil.rmtree(folder)


def test_none_yet(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None and load_latest(tmp_path / "missing") is None


def test_the_newest_are_kept_and_latest_names_the_last(tmp_path: Path) -> None:
    for steps in (900, 1000, 20_000, 1_000_000_000_000_0):
        save_checkpoint(tmp_path, steps, weights(steps % 97), {}, keep=2)
    assert names(tmp_path) == {"000000020000", "10000000000000", "latest"}
    assert (tmp_path / "latest").read_text() == "10000000000000\n"
    assert loaded(tmp_path).timesteps == 10**13


def test_same_timesteps_again_replace_safely(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, weights(4), {})
    for value in (1, 2, 3):
        save_checkpoint(tmp_path, 10, weights(value), {"value": value}, keep=2)
        assert loaded(tmp_path).state == {"value": value}
        assert len(names(tmp_path) - {"latest"}) == 2  # those of 5 and of 10
    save_checkpoint(tmp_path, 20, weights(7), {}, keep=1)
    assert names(tmp_path) == {"000000000020", "latest"}


def test_state_that_is_not_plain_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="plain data, not function"):
        save_checkpoint(tmp_path / "c", 1, {}, {"f": lambda: 0})
    assert not (tmp_path / "c").exists()


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 4
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_damaged_one_is_refused_and_the_previous_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    save_checkpoint(tmp_path, 100, weights(1), {"good": True})
    newest = save_checkpoint(tmp_path, 200, weights(2), {"good": False, "filler": "x" * 50})
    damage(newest / name)
    found = loaded(tmp_path)
    assert found.timesteps == 100 and found.state == {"good": True} and found.tensors["w"][0, 0] == 1
    assert (len(found.notes) == 2 and name in found.notes[0]) or "damaged" in found.notes[0]
    assert str(newest) in found.notes[0] and "100 timesteps" in found.notes[1]

    # Going on from there: the damaged one is set aside, not deleted, and doesn't stand in the way.
    save_checkpoint(tmp_path, 150, weights(3), {})
    assert loaded(tmp_path).timesteps == 150 and loaded(tmp_path).notes == ()
    assert names(tmp_path) == {"000000000100", "000000000150", "000000000200.damaged", "latest"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        path = save_checkpoint(folder, 7, weights(1), {"a": [1.5, None]}, {"experiment": {"clip": 0.2}})
        name = data.draw(st.sampled_from(sorted(names(path))))
        content = bytearray((path / name).read_bytes())
        where = data.draw(st.integers(0, len(content) - 1))
        content[where] ^= 1 << data.draw(st.integers(0, 7))
        (path / name).write_bytes(bytes(content))
        with pytest.raises(CheckpointError):
            before = loaded(folder)
            # Some flips leave the same JSON (a space for another); then nothing at all may differ.
            assert before.manifest["experiment"] == {"clip": 0.2} and before.state == {"a": [1.5, None]}
            raise CheckpointError("equal")
    finally:
        shutil.rmtree(folder)


def test_all_damaged(tmp_path: Path) -> None:
    for steps in (1, 2):
        _truncate(save_checkpoint(tmp_path, steps, weights(1), {}) / "tensors.safetensors")
    with pytest.raises(CheckpointError, match="--clobber") as caught:
        load_latest(tmp_path)
    assert str(caught.value).count("is damaged") == 2


def test_a_pickle_in_place_of_tensors_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    path = save_checkpoint(tmp_path / "c", 1, weights(1), {})
    poison = pickle.dumps(Evil())
    manifest = json.loads((path / "manifest.json").read_bytes())
    manifest.pop("sha256")
    manifest["files"]["tensors.safetensors"] = {"bytes": len(poison), "sha256": checkpoint._sha256(poison)}
    manifest["sha256"] = checkpoint._sha256(checkpoint._json(manifest))
    (path / "manifest.json").write_bytes(checkpoint._json(manifest))
    (path / "tensors.safetensors").write_bytes(poison)
    with pytest.raises(CheckpointError, match="damaged"):
        load_latest(tmp_path / "c")
    assert not (tmp_path / "ran").exists()


def test_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save_checkpoint(tmp_path, 1, weights(1), {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="later version"):
        load_latest(tmp_path)


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_full_disk_leaves_earlier_checkpoints_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    save_checkpoint(tmp_path, 1, weights(1), {})
    before = names(tmp_path)
    write, calls = atomic_files.write_synced, 0

    def full(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_synced", full)
    monkeypatch.setattr(atomic_files, "write_synced", full)  # the fourth write is that of `latest`
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(tmp_path, 2, weights(2), {})
    monkeypatch.undo()
    assert not [name for name in names(tmp_path) if name.startswith(".tmp")]
    if fails_at < 4:
        assert names(tmp_path) == before
    assert loaded(tmp_path).timesteps == (1 if fails_at < 4 else 2) and loaded(tmp_path).notes == ()


def test_a_real_size_limit_is_an_error_of_ours(tmp_path: Path) -> None:
    script = """
import resource, signal, sys, torch
from pathlib import Path
from ppo_and_friends.runs.checkpoint import save_checkpoint, load_latest
from ppo_and_friends.errors import CheckpointError
folder = Path(sys.argv[1])
save_checkpoint(folder, 1, {"w": torch.zeros(10)}, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(folder, 2, {"w": torch.zeros(1_000_000)}, {})
except CheckpointError as error:
    print(error)
assert load_latest(folder).timesteps == 1
assert sorted(path.name for path in folder.iterdir()) == ["000000000001", "latest"]
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "can't be written" in done.stdout, done.stderr


def test_kill_9_while_saving_loses_nothing(tmp_path: Path) -> None:
    script = """
import os, signal, sys, torch
from pathlib import Path
from ppo_and_friends.runs import checkpoint
folder = Path(sys.argv[1])
checkpoint.save_checkpoint(folder, 1, {"w": torch.ones(10)}, {})
real = checkpoint.write_synced
def dying(path, data):
    if path.name == "state.json":
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, data)
checkpoint.write_synced = dying
checkpoint.save_checkpoint(folder, 2, {"w": torch.ones(10)}, {})
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=clean_environment())
    assert done.returncode == -signal.SIGKILL
    assert [name for name in names(tmp_path) if name.startswith(".tmp")]
    assert loaded(tmp_path).timesteps == 1 and loaded(tmp_path).notes == ()
    save_checkpoint(tmp_path, 3, weights(1), {})
    assert names(tmp_path) == {"000000000001", "000000000003", "latest"}


def test_digest_sees_every_bit() -> None:
    assert bits_digest(np.array([0.0])) != bits_digest(np.array([-0.0]))
    assert bits_digest(np.zeros(4)) != bits_digest(np.zeros((2, 2)))
    assert bits_digest(np.zeros(4, np.float32)) != bits_digest(np.zeros(4, np.int32))
    assert bits_digest(np.arange(6).reshape(2, 3).T) == bits_digest(np.arange(6).reshape(2, 3).T.copy())
    assert bits_digest(np.array([np.nan])) == bits_digest(np.array([np.nan]))
    assert 0 <= bits_digest(np.array(3.0)) < 2**63 and 0 <= bits_digest(np.zeros((0, 3))) < 2**63


def test_replication_check_names_tensor_and_ranks_on_all_ranks() -> None:
    def fn(comm: object) -> str:
        rank = comm.rank  # type: ignore[attr-defined]
        equal = np.linspace(0, 1, 7)
        assert_replicated(comm, {"a": equal, "b": equal.astype(np.float32)})  # type: ignore[arg-type]
        other = equal.copy()
        if rank in (1, 3):
            other[-1] = np.nextafter(1.0, 2.0)
        with pytest.raises(ReplicationError) as caught:
            assert_replicated(comm, {"mean": equal, "weight": other})  # type: ignore[arg-type]
        with pytest.raises(ReplicationError, match="have different names"):
            assert_replicated(comm, {f"a{rank == 2}": equal} | ({"more": equal} if rank == 2 else {}))  # type: ignore[arg-type]
        return str(caught.value)

    messages = run_threaded(4, fn)
    assert len(set(messages)) == 1 and "weight on rank 1, 3" in messages[0] and "mean on" not in messages[0]
    assert_replicated(SoloCommunicator(), {})


def experiment(**environment: object) -> Experiment:
    return Experiment(
        name="Toy",
        environment=EnvironmentSettings(id="CartPole-v1", **environment),  # type: ignore[arg-type]
        friends=(friend("KLEarlyStop", target=0.02),),
    )


def test_plain_experiment_round_trips_as_json_alone(tmp_path: Path) -> None:
    whole = experiment(arguments={"render_mode": None})
    save_experiment(tmp_path, whole, ["main.py", "-e", "Toy"], ranks=3)
    assert names(tmp_path) == {"experiment.json"}
    record = json.loads((tmp_path / "experiment.json").read_text())
    assert record["command_line"] == ["main.py", "-e", "Toy"] and record["ranks"] == 3
    assert record["experiment"]["ppo"]["learning_rate"]["start"] == 3e-4 and "numpy" in record["versions"]
    assert load_experiment(tmp_path) == whole


@pytest.mark.parametrize("place", ["factory", "argument", "friend"])
def test_experiment_with_code_needs_trust(tmp_path: Path, place: str) -> None:
    class Local:
        answer = 42

    if place == "factory":
        whole = experiment(factory=lambda: 42)
    elif place == "argument":
        whole = experiment(arguments={"callback": lambda: 42})
    else:
        whole = Experiment(name="Toy", environment=EnvironmentSettings(id="X-v0"), friends=(friend(Local),))
    save_experiment(tmp_path, whole, [])
    assert experiment_settings(whole) == experiment_settings(whole)
    assert "0x" not in (tmp_path / "experiment.json").read_text()  # an address would differ in every run
    with pytest.raises(UsageError, match="--trust"):
        load_experiment(tmp_path)
    again = load_experiment(tmp_path, trust=True)
    if place == "factory":
        assert again.environment.factory is not None and again.environment.factory() == 42
    elif place == "argument":
        assert again.environment.arguments["callback"]() == 42
    else:
        assert again.friends[0].kind is not None and again.friends[0].kind.answer == 42  # type: ignore[attr-defined]
    save_experiment(tmp_path, experiment(), [])
    assert names(tmp_path) == {"experiment.json"}  # the code of the earlier one is gone


def test_missing_or_damaged_experiment(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No experiment"):
        load_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        load_experiment(tmp_path)
    save_experiment(tmp_path, experiment(), [])
    text = (tmp_path / "experiment.json").read_text().replace('"epochs": 5', '"epochs": -5')
    text = text.replace('"sha256"', '"unused"')
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(UsageError, match=r"ppo\.epochs"):
        load_experiment(tmp_path)


def test_settings_that_were_changed_afterwards_are_refused(tmp_path: Path) -> None:
    save_experiment(tmp_path, experiment(), ["main.py"])
    path = tmp_path / "experiment.json"
    text = path.read_text()
    assert text.count('"target": 0.02') == 1
    path.write_text(text.replace('"target": 0.02', '"target": 0.03'))
    with pytest.raises(UsageError, match="is damaged: it doesn't match its checksum"):
        load_experiment(tmp_path)
    # Whoever changed it on purpose says so.
    path.write_text(path.read_text().replace('"sha256"', '"unused"'))
    assert load_experiment(tmp_path).friends[0].arguments == {"target": 0.03}


def test_changed_code_is_not_run_even_if_trusted(tmp_path: Path) -> None:
    settings = Experiment(
        name="Toy", environment=EnvironmentSettings(id="x", factory=lambda **_: None), friends=()
    )
    save_experiment(tmp_path, settings, ["main.py"])
    assert load_experiment(tmp_path, trust=True).name == "Toy"
    code = (tmp_path / "experiment.dill").read_bytes()
    (tmp_path / "experiment.dill").write_bytes(code.replace(b"Toy", b"Toe"))
    with pytest.raises(UsageError, match=r"experiment\.dill can't be loaded: .*checksum"):
        load_experiment(tmp_path, trust=True)


def test_code_that_comes_with_a_run_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cwd = tmp_path / "downloaded", tmp_path
    run.mkdir()
    monkeypatch.chdir(cwd)
    (run / "evil.py").write_text("raise SystemExit")
    (cwd / "mine.py").write_text("")
    for name in ("downloaded/evil.py:Friend", f"{run}/evil.py:Friend", "downloaded/../downloaded/evil.py:F"):
        save_experiment(run, replace(experiment(), friends=(friend(name),)), ["main.py"])
        with pytest.raises(UsageError, match="names code that lies in its own folder") as caught:
            load_experiment(run)
        assert name in str(caught.value) and "--trust" in str(caught.value)
        assert load_experiment(run, trust=True).friends[0].name == name
    save_experiment(run, replace(experiment(), friends=(friend("mine.py:Friend"),)), ["main.py"])
    assert load_experiment(run).friends[0].name == "mine.py:Friend"
