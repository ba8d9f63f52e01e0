"""A long run stays as it is: nothing rises with the iterations, and what does is found."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.long_run import BOUNDS, growing, watch


def test_what_rises_is_found() -> None:
    flat = {name: [10.0] * 100 for name in BOUNDS}
    assert growing(flat) == {}
    # A file left behind every tenth iteration: 5 more over the 50 of the second half.
    files = [float(number // 10) for number in range(100)]
    found = growing(flat | {"files": files})
    assert list(found) == ["files"] and found["files"] == pytest.approx(0.1, rel=0.3)
    noisy = 1e5 + np.random.default_rng(1).normal(0, 20, 400)
    assert growing(flat | {"memory, kB": list(noisy)}) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_open_or_lying_about() -> None:
    seen = watch("CartPole", 50)
    assert {len(values) for values in seen.values()} == {50}
    for name in ("open files", "threads", "files"):
        assert seen[name][10:] == [seen[name][10]] * 40, name
