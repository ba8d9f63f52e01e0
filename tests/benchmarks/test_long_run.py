"""A long run stays as it is: nothing rises with the iterations, and what does is found."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.long_run import BOUNDS, growing, watch
from ppo_and_friends.common.versions import library_versions


def test_what_rises_is_found() -> None:
    flat = {name: np.full(100, 10.0) for name in BOUNDS}
    assert growing(flat) == {}
    # A file left behind every tenth iteration: 5 more over the 50 of the second half.
    files = np.arange(100) // 10.0
    found = growing(flat | {"files": files})
    assert list(found) == ["files"] and found["files"] == pytest.approx(0.1, rel=0.3)
    noisy = 1e5 + np.random.default_rng(1).normal(0, 20, 400)
    assert growing(flat | {"memory, kB": noisy}) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_open_or_lying_about() -> None:
    seen = watch("CartPole", 50)
    assert {len(values) for values in seen.values()} == {50}
    for name in ("open files", "threads", "files"):
        assert (seen[name][10:] == seen[name][10]).all(), name


def test_packages_are_asked_once_for_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each checkpoint has them; parsing 360 kB of metadata with each made the heap grow by 14 kB an iteration.
    known = library_versions()
    monkeypatch.setattr("importlib.metadata.version", lambda name: pytest.fail(f"{name} is asked again"))
    assert library_versions() == known != {}
    library_versions().clear()
    assert library_versions() == known
