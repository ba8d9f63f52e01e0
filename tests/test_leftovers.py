"""Shared memory of killed jobs is removed, and nobody else's."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ppo_and_friends.distributed.leftovers import SECONDS, remove_leftovers


def test_only_what_is_old_and_unused_is_removed(tmp_path: Path) -> None:
    shared, processes = tmp_path / "shm", tmp_path / "proc"
    shared.mkdir()
    before = time.time() - SECONDS - 1
    for name in ("mpich_shm_dead_0", "mpich_shm_alive_0", "mpich_shm_open_0", "mpich_shm_young_0", "others"):
        (shared / name).write_bytes(b"x")
        if "young" not in name:
            os.utime(shared / name, (before, before))
    (processes / "7").mkdir(parents=True)
    (processes / "7" / "maps").write_text(
        f"7f-80 rw-s 0 00:19 5 {shared}/mpich_shm_alive_0\n7f-80 rw-p 0 0 0\n"
    )
    (processes / "9" / "fd").mkdir(parents=True)
    (processes / "9" / "fd" / "3").symlink_to(shared / "mpich_shm_open_0")
    (processes / "8").mkdir()  # has ended in the meantime: no maps
    assert remove_leftovers(shared, processes) == 1
    left = {path.name for path in shared.iterdir()} - {"others"}
    assert left == {"mpich_shm_alive_0", "mpich_shm_open_0", "mpich_shm_young_0"}
    assert remove_leftovers(shared, processes) == remove_leftovers(tmp_path / "none", processes) == 0
