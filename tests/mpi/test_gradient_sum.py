"""Gradients summed by a process group instead of MPI: on CPUs, where Gloo stands in for NCCL."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
RunMPI = Callable[..., "subprocess.CompletedProcess[str]"]

START = """
import sys, warnings
from datetime import timedelta
import numpy as np, torch
import torch.distributed as dist
from ppo_and_friends.distributed import gradient_sum
from ppo_and_friends.distributed.launch import guard, make_communicator
comm = make_communicator()
with guard(comm):
    rank, size = comm.rank, comm.size
"""

SUMS = """
    for _ in range(2):  # the second training finds the first one's group
        assert gradient_sum.connect(comm, "gloo", f"device {rank}")
        noise = np.random.default_rng(rank).standard_normal(10_001).astype(np.float32)
        buffer = torch.from_numpy(noise.copy())
        for _ in range(3):
            buffer.copy_(torch.from_numpy(noise))
            gradient_sum.sum_in_group_(buffer)
        comm.sum_(noise)
        np.testing.assert_allclose(buffer.numpy(), noise, atol=1e-5)
        assert len(set(comm.gather(buffer.numpy().tobytes()))) == 1  # the same bits on all ranks
"""

FAILS = """
    kept = {where}
    def refuse(*args, **kwargs):
        raise RuntimeError("no way there")
    if rank in {failing}:
        {where} = refuse
    gradient_sum.CONNECT_TIMEOUT = gradient_sum.SUM_TIMEOUT = timedelta(seconds=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not gradient_sum.connect(comm, "gloo", f"device {{rank}}")
    said = comm.gather([str(one.message) for one in caught if "connect with gloo" in str(one.message)])
    assert [len(one) for one in said] == [1] + [0] * (size - 1) and "no way there" in said[0][0], said
    assert not dist.is_initialized()
    array = np.ones(1)
    comm.sum_(array)  # MPI is as good as before
    assert array[0] == size
    {where} = kept
    gradient_sum.SUM_TIMEOUT = timedelta(seconds=60)
    assert gradient_sum.connect(comm, "gloo", f"device {{rank}}")  # and another try may do better
    assert not gradient_sum.connect(comm, "nccl", f"device {{rank}}")  # that group is another one
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("size", [2, 3])
def test_a_group_sums_as_mpi_does(run_mpi: RunMPI, tmp_path: Any, size: int) -> None:
    script = tmp_path / "sums.py"
    script.write_text(START + SUMS)
    done = run_mpi(size, [str(script)], timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("where", "failing"),
    # Gloo's groups wait for all ranks when they are made, unlike NCCL's: so there all fail.
    [("dist.TCPStore", (0,)), ("dist.TCPStore", (1,)), ("dist.init_process_group", (0, 1))],
)
def test_a_rank_that_cannot_connect_leaves_all_to_mpi(
    run_mpi: RunMPI, tmp_path: Any, where: str, failing: tuple[int, ...]
) -> None:
    script = tmp_path / "fails.py"
    script.write_text(START + FAILS.format(where=where, failing=failing))
    done = run_mpi(2, [str(script)], timeout=60)
    assert done.returncode == 0, done.stderr
    assert "no way there" not in done.stderr and "Error" not in done.stderr  # nothing at exit either
