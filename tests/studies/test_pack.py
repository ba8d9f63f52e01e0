"""A packed policy: one file without code, taken wherever a run's folder is, and uploaded as it is."""

from __future__ import annotations

import base64
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ppo_and_friends import load_policy
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.studies.pack import pack
from tests.command_line import run, toy
from tests.toys import FOLDER

FILES = {
    "README.md",
    "experiment.json",
    "learning_curve.png",
    "manifest.json",
    "progress.csv",
    "state.json",
    "tensors.safetensors",
    "test_scores.json",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("state")
    assert run(*toy(home, "--with=ObservationNormalizer")).status == 0
    return home / FOLDER


@pytest.fixture(scope="module")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(trained, tmp_path_factory.mktemp("packed") / "toy.zip", episodes=2)


def test_a_pack_acts_as_its_run_does(trained: Path, packed: Path, tmp_path: Path):
    observations = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    expected = load_policy(trained)(observations)
    assert len(set(expected.tolist())) == 2
    assert (load_policy(packed)(observations) == expected).all()
    zipfile.ZipFile(packed).extractall(tmp_path)  # as downloaded from the hub
    assert (load_policy(tmp_path)(observations) == expected).all()


def test_a_pack_holds_what_is_said_and_no_optimizer(packed: Path):
    archive = zipfile.ZipFile(packed)
    assert set(archive.namelist()) == FILES
    assert b"optimizer" not in archive.read("tensors.safetensors")
    assert not any(archive.read(name).startswith(b"\x80") for name in FILES)  # how pickles begin
    scores = json.loads(archive.read("test_scores.json"))
    assert len(scores["episodes"]) == 2


def test_the_card_is_as_the_hub_reads_it(packed: Path):
    card = zipfile.ZipFile(packed).read("README.md").decode()
    _, head, body = card.split("---\n", 2)
    metadata: Any = yaml.safe_load(head)
    assert metadata["library_name"] == "ppo-and-friends" and "reinforcement-learning" in metadata["tags"]
    result = metadata["model-index"][0]["results"][0]
    assert result["metrics"][0]["type"] == "mean_reward" and "+/-" in result["metrics"][0]["value"]
    assert "![Learning curve](learning_curve.png)" in body
    assert "| `ppo.rollout_timesteps` | 128 |" in body


def test_the_command_line_tests_a_pack_without_a_name(packed: Path):
    done = run("--policy", packed, "--num_test_runs", "2")
    assert done.status == 0, done.err
    scores = json.loads((packed.with_suffix("") / "test_scores.json").read_text())
    assert len(scores["episodes"]) == 2


def test_what_is_no_pack_is_refused(trained: Path, packed: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("../manifest.json", "{}")
    with pytest.raises(UsageError, match=r"not a packed policy: it has no tensors\.safetensors"):
        load_policy(tmp_path / "other.zip")
    damaged = bytearray(packed.read_bytes())
    place = zipfile.ZipFile(packed).getinfo("tensors.safetensors").header_offset + 500
    damaged[place : place + 100] = bytes(100)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        load_policy(tmp_path / "damaged.zip")
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(tmp_path / "changed.zip", "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            changed.writestr(
                name, data.replace(b'"timesteps"', b'"timestepz"') if name == "state.json" else data
            )
    with pytest.raises(CheckpointError, match="checksum"):
        load_policy(tmp_path / "changed.zip")


@pytest.mark.parametrize("name", ["tensors.safetensors", "manifest.json", "state.json", "experiment.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[" * 100_000], ids=["empty", "{}", "[1]", "deep"])
def test_a_damaged_pack_is_named_and_not_where_it_was_unpacked(
    packed: Path, tmp_path: Path, name: str, content: bytes
):
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(damaged, "w") as target:
        for each in source.namelist():
            target.writestr(each, content if each == name else source.read(each))
    with pytest.raises(CheckpointError) as caught:
        load_policy(damaged)
    assert str(caught.value).startswith(f"{damaged} is damaged: ") and "\n" not in str(caught.value)
    assert "ppo-policy-" not in str(caught.value) and "--clobber" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--pack", "/nowhere"), "No trained policy in /nowhere"),
        (("--push", "a/b", "-e", "CartPole"), "--push needs --pack"),
    ],
)
def test_nonsense_is_refused(arguments: tuple[str, ...], told: str):
    done = run(*arguments)
    assert done.status == 2 and told in done.err and len(done.complaint) <= 2


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs; keeps what it is sent."""

    files: dict[str, bytes]
    created: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer: Any = {}
        if self.path == "/api/repos/create":
            name = json.loads(body)
            type(self).created.append(f"{name.get('organization')}/{name['name']}")
            answer = {"url": "https://huggingface.co/someone/toy"}
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            answer = {
                "files": [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked
                ]
            }
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    type(self).files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {
                "commitUrl": "https://huggingface.co/someone/toy/commit/1",
                "commitOid": "1",
                "pullRequestUrl": None,
            }
        self._answer(answer)

    def do_GET(self) -> None:
        self._answer({"id": "someone/toy", "sha": "0", "siblings": [], "tags": [], "private": False})

    def _answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    pytest.importorskip("huggingface_hub", reason="the extra [hub]")
    Hub.files, Hub.created = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


def test_pushing_uploads_the_files_as_they_are(trained: Path, hub: type[Hub], tmp_path: Path):
    done = run("--pack", trained, "--pack_file", tmp_path / "toy.zip", "--push", "someone/toy")
    assert done.status == 0, done.err
    assert hub.created == ["someone/toy"]
    archive = zipfile.ZipFile(tmp_path / "toy.zip")
    assert hub.files == {name: archive.read(name) for name in FILES}


def test_pushing_nowhere_is_told_in_a_line(packed: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("huggingface_hub", reason="the extra [hub]")
    from ppo_and_friends.errors import PPOError
    from ppo_and_friends.studies.hub import push

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with pytest.raises(PPOError, match="--push someone/toy: "):
        push(packed, "someone/toy")
    with pytest.raises(UsageError, match="write the repository as user/name"):
        push(packed, "toy")


def test_a_pack_with_a_password_is_refused(packed: Path, tmp_path: Path):
    content = bytearray(packed.read_bytes())
    # The first bit of an entry's flags, 8 bytes into its record of the directory, says that it is encrypted.
    for place in [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]:
        content[place + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"locked\.zip is damaged: .*password"):
        load_policy(tmp_path / "locked.zip")
