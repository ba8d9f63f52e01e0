"""Ranks that disagree are noticed at the start, by one collective, and named."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

import pytest
import torch

from ppo_and_friends.distributed import alike_ranks
from ppo_and_friends.distributed.alike_ranks import Facts, check_ranks, compare, facts_of
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.processors import instructions
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import ReplicationError
from tests.command_line import spawn, toy

SAME: Facts = {"arguments": "-e CartPole", "torch": "2.13.0", "processor": "x86_64 AVX2"}


def told(*ranks: Facts) -> str:
    with pytest.raises(ReplicationError) as caught:
        compare(ranks)
    assert str(caught.value).count("\n") == 1
    return str(caught.value).splitlines()[0]


def test_equal_ranks_pass() -> None:
    assert compare([SAME] * 4) == []
    assert check_ranks(SoloCommunicator(), {"arguments": "-e CartPole"}) == []


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([SAME, SAME | {"torch": "2.12.0"}], "torch: 2.13.0 on rank 0, 2.12.0 on rank 1."),
        (
            [SAME] * 6 + [SAME | {"arguments": "-e Pendulum"}],
            "arguments: -e CartPole on the others, -e Pendulum on rank 6.",
        ),
        (
            [SAME, SAME, SAME | {"MKL_CBWR": "AVX2"}],
            "MKL_CBWR: not there on rank 0, 1, AVX2 on rank 2.",
        ),
        ([{}, SAME], "arguments: not there on rank 0, -e CartPole on rank 1; torch: not there"),
    ],
)
def test_what_differs_is_named_by_rank(ranks: list[Facts], said: str) -> None:
    assert said in told(*ranks)


def test_many_differences_are_counted() -> None:
    ranks = [{str(name): str(rank) for name in range(8)} | {"processor": "x"} for rank in range(9)]
    assert "; and 5 more differences." in told(*ranks) and "rank 3" not in told(*ranks)


def test_processors_may_differ_as_long_as_they_compute_the_same() -> None:
    wider = SAME | {"processor": "x86_64 AVX512"}
    (note,) = compare([SAME, wider])
    assert "processor: x86_64 AVX2 on rank 0, x86_64 AVX512 on rank 1" in note
    for other in ("x86_64 no vector instructions", "aarch64"):
        assert "different numbers" in told(SAME, wider, SAME | {"processor": other})


def test_every_rank_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(communicator: Communicator) -> str:
        with pytest.raises(ReplicationError) as caught:
            check_ranks(communicator, {"arguments": f"--seed {min(communicator.rank, 1)}"})
        return str(caught.value)

    messages = run_threaded(3, on)
    assert len(set(messages)) == 1 and "--seed 0 on rank 0, --seed 1 on rank 1, 2" in messages[0]


def test_variables_that_matter_and_the_code_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    before = facts_of({})
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("LANG", "xx")
    monkeypatch.setattr(alike_ranks, "code_digest", lambda: "another")
    after = facts_of({})
    differing = {name for name in after if after[name] != before.get(name)}
    assert differing == {"NVIDIA_TF32_OVERRIDE", "the project's code"}
    assert before["torch"] == torch.__version__ and before["python"]


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="x86 on Linux only")
def test_instructions_are_those_that_torch_uses(tmp_path: Path) -> None:
    named = {"NO AVX": "no vector instructions", "DEFAULT": "no vector instructions"}
    capability = torch.backends.cpu.get_cpu_capability()
    assert instructions() == f"x86_64 {named.get(capability, capability)}"
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx2 fma avx512f avx512bw avx512vl avx512dq\n")
    assert instructions({}, info) == "x86_64 AVX512"
    assert instructions({"ATEN_CPU_CAPABILITY": "avx2"}, info) == "x86_64 AVX2"
    assert instructions({"ATEN_CPU_CAPABILITY": "default"}, info) == "x86_64 no vector instructions"
    info.write_text("flags\t\t: fpu sse2\n")
    assert instructions({}, info) == "x86_64 no vector instructions"
    info.write_text("Features\t: fp asimd\n")
    assert instructions({}, info) == "x86_64" == instructions({}, tmp_path / "missing")


@pytest.mark.mpi
def test_a_rank_with_other_arguments_ends_the_job_at_the_start(tmp_path: Path, mpirun_path: str) -> None:
    script = 'if [ "$PMI_RANK" = 1 ]; then exec "$@" --random_seed=2; else exec "$@"; fi'
    done = spawn(*toy(tmp_path), before=(mpirun_path, "-n", "3", "/bin/sh", "-c", script, "sh"), timeout=60)
    assert done.status == 1 and len(done.complaint) == 2, done.err
    assert "The ranks don't run the same program: arguments:" in done.err
    assert f"{shlex.join(toy(tmp_path))} --random_seed=2"[:20] in done.err and "on rank 0, 2" in done.err
    assert not any(tmp_path.iterdir())
