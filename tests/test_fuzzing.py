"""Saved files with anything in them: loaded or refused in a line or two, and never anything else.

``FUZZ_EXAMPLES`` sets how many examples each test tries.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.forged import Content, rewrite
from ppo_and_friends import load_policy
from ppo_and_friends.errors import PPOError
from ppo_and_friends.runs.saved_experiment import load_experiment
from ppo_and_friends.studies.pack import pack
from tests.command_line import latest, run, toy
from tests.toys import FOLDER

LONG = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([-1, 2**63, 10**400, "inf", "Box", [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("state")
    friends = ("--with=ObservationNormalizer", "--with=RND", "--with=RewardNormalizer")
    assert run(*toy(home, *friends, timesteps=100)).status == 0
    return home


@pytest.fixture(scope="module")
def packed(trained: Path) -> bytes:
    return pack(trained / FOLDER, trained / "toy.zip", episodes=1).read_bytes()


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(shutil.copytree(path, Path(place) / path.name))


def put_somewhere(data: st.DataObject, tree: Any) -> None:
    """Replace, remove or add something in nested JSON, in place."""
    inside = tree
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        deeper = isinstance(inside[key], dict | list) and inside[key]
        if not deeper or data.draw(st.integers(0, 3)) == 0:
            break
        inside = inside[key]
    match data.draw(st.sampled_from(["replace", "replace", "remove", "add"])):
        case "replace":
            inside[key] = data.draw(VALUES)
        case "remove":
            del inside[key]
        case _:
            if isinstance(inside, dict):
                inside[data.draw(st.text(max_size=5))] = data.draw(VALUES)
            else:
                inside.append(data.draw(VALUES))


def loads_or_is_refused(load: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load()
        except PPOError as error:
            assert 0 < len(str(error).splitlines()) <= 3


@LONG
@given(st.data())
def test_settings(trained: Path, data: st.DataObject) -> None:
    with copied(trained / FOLDER) as folder:
        path = folder / "experiment.json"
        record = json.loads(path.read_bytes())
        del record["sha256"]
        for _ in range(data.draw(st.integers(1, 3))):
            put_somewhere(data, record)
        path.write_text(json.dumps(record))
        loads_or_is_refused(lambda: load_experiment(folder))
        loads_or_is_refused(lambda: load_policy(folder))


@LONG
@given(st.data())
def test_states_and_manifests_with_right_checksums(trained: Path, data: st.DataObject) -> None:
    def change(content: Content) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            put_somewhere(data, data.draw(st.sampled_from([content.state, content.manifest])))
        # Checksums belong to the files, so what says which files there are is put right.
        content.manifest["files"] = {}

    with copied(trained / FOLDER) as folder:
        rewrite(latest(folder.parent, folder.name).path, change)
        loads_or_is_refused(lambda: load_policy(folder))


@LONG
@given(st.binary(max_size=300), st.sampled_from(["manifest.json", "state.json", "experiment.json"]))
def test_anything_in_place_of_json(trained: Path, content: bytes, name: str) -> None:
    with copied(trained / FOLDER) as folder:
        place = folder if name == "experiment.json" else latest(folder.parent, folder.name).path
        (place / name).write_bytes(content)
        with pytest.raises(PPOError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_policy(folder)


@LONG
@given(st.data())
def test_packed_policies(packed: bytes, data: st.DataObject) -> None:
    content = bytearray(packed)
    # The directory of a ZIP file is its end.
    places = st.integers(0, len(content) - 1) | st.integers(max(0, len(content) - 700), len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 10, 100, 1000]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "toy.zip"
        path.write_bytes(bytes(content[: len(content) - cut]))
        loads_or_is_refused(lambda: load_policy(path))
        if zipfile.is_zipfile(path):
            assert [each.name for each in Path(place).iterdir()] == ["toy.zip"]
