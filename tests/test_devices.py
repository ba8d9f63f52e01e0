"""Which device each rank takes, decided by all of them; no GPU is needed to test it."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ppo_and_friends.distributed import devices, gradient_sum
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.devices import assign, choose_device, host_zeros
from ppo_and_friends.distributed.gradient_sum import connect, sum_staged_
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.distributed.timed_communicator import TimedCommunicator
from ppo_and_friends.errors import UsageError
from tests.test_shards import on_shards


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([("a", 1)], ["cuda:0"]),
        # Five ranks share two GPUs of a node in turns.
        ([("a", 2)] * 5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        # Each node counts its own ranks, however the launcher placed them.
        ([("a", 2), ("b", 2), ("a", 2), ("b", 2)], ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]),
        # A scheduler that shows each rank its own GPU calls every one of them 0.
        ([("a", 1), ("a", 1)], ["cuda:0", "cuda:0"]),
        ([("a", 2), ("b", 0)], ["cpu", "cpu"]),
        ([("a", 0)], ["cpu"]),
    ],
)
def test_ranks_are_spread_over_their_nodes_gpus(ranks: list[tuple[str, int]], expected: list[str]) -> None:
    assert [str(assign("auto", ranks, rank)) for rank in range(len(ranks))] == expected


def test_cuda_that_a_rank_lacks_is_refused_on_all_alike() -> None:
    ranks = [("a", 4), ("a", 4), ("b", 0)]
    for rank in range(3):
        with pytest.raises(UsageError, match="rank 2 on b"):
            assign("cuda", ranks, rank)
    with pytest.raises(UsageError, match="no CUDA device is available"):
        assign("cuda", [("a", 0)] * 2, 0)


@pytest.mark.parametrize(("own", "expected"), [((1, 1, 1), "cuda"), ((1, 0, 1), "cpu"), ((0, 0, 0), "cpu")])
def test_auto_is_one_decision_of_all_ranks(
    own: tuple[int, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[torch.device] = []

    class Sees:
        """A communicator whose ranks tell the numbers of GPUs that the test gives them."""

        def __init__(self, comm: Communicator) -> None:
            self.rank, self._comm = comm.rank, comm

        def gather(self, value: tuple[str, int]) -> list[tuple[str, int]]:
            return self._comm.gather((value[0], own[self.rank]))

    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)

    def fn(comm: Communicator) -> str:
        return choose_device("auto", Sees(comm), convolutions=True).type  # type: ignore[arg-type]

    assert run_threaded(3, fn) == [expected] * 3
    assert len(chosen) == (3 if expected == "cuda" else 0)


def test_small_networks_stay_on_the_cpu_without_asking_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: pytest.fail("CUDA was started"))
    for name, convolutions in (("auto", False), ("cpu", True), ("cpu", False)):
        assert choose_device(name, SoloCommunicator(), convolutions=convolutions).type == "cpu"


def test_host_arrays_are_plain_ones_on_the_cpu() -> None:
    array = host_zeros((3, 2), np.uint8, torch.device("cpu"))
    assert array.shape == (3, 2) and array.dtype == np.uint8 and not array.any() and array.flags.owndata


def test_host_arrays_for_a_gpu_lie_in_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        locked.append(tensor.clone())
        return locked[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    array = host_zeros((4,), np.float32, torch.device("cuda", 0))
    array[:] = 7.0
    assert locked[0].tolist() == [7.0] * 4  # the locked memory itself, not a copy of it


def test_a_gpus_tensor_is_summed_by_way_of_the_host() -> None:
    staging = [torch.empty(3) for _ in range(3)]

    def fn(comm: Communicator) -> list[float]:
        tensor = torch.tensor([1.0, 10.0, 100.0]) * (comm.rank + 1)
        for _ in range(2):  # the staging memory serves every step
            sum_staged_(tensor, staging[comm.rank], comm)
        return tensor.tolist()

    # 1 + 2 + 3 = 6, and that on each of three ranks: 18.
    assert run_threaded(3, fn) == [[18.0, 180.0, 1800.0]] * 3
    assert all(one.tolist() == [18.0, 180.0, 1800.0] for one in staging)


@pytest.mark.parametrize("own", [("gpu-a", "gpu-a", "gpu-b"), ("gpu-a", None, "gpu-b"), (None,) * 3])
def test_ranks_that_share_a_gpu_or_lack_the_backend_do_not_connect(own: tuple[str | None, ...]) -> None:
    assert run_threaded(3, lambda comm: connect(comm, "gloo", own[comm.rank])) == [False] * 3


def test_gradients_of_shards_are_left_to_their_own_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL has its own order, and each rank would wait in it for the others: shards take turns."""
    properties = SimpleNamespace(uuid="GPU-1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.delenv(gradient_sum.SWITCH, raising=False)

    def own_gpu(communicator: Communicator) -> str | None:
        return gradient_sum._own_gpu(torch.device("cuda", 0), TimedCommunicator(communicator, nullcontext()))

    assert on_shards(2, 2, own_gpu) == [None, None]
    assert run_threaded(2, own_gpu) == ["GPU-1", "GPU-1"]
