"""Initial weights: PyTorch's orthogonal ones, but with the same bits on most processors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from ppo_and_friends.networks.layers import orthogonal_
from ppo_and_friends.networks.memory import Memory

SHAPES = [(64, 24), (3, 64), (16, 16), (32, 4, 8, 8)]


def drawn(shape: tuple[int, ...]) -> Tensor:
    weight = torch.empty(shape)
    orthogonal_(weight, 1.5, torch.Generator().manual_seed(3))
    return weight


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_they_are_those_of_pytorch_but_for_rounding(shape: tuple[int, ...]) -> None:
    expected = nn.init.orthogonal_(torch.empty(shape), 1.5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn(shape), expected, rtol=1e-4, atol=1e-6)


def everything() -> str:
    """All bits, as text."""
    memory = Memory("lstm", 5, 48, 2, 32, torch.Generator().manual_seed(4))
    tensors = [*map(drawn, SHAPES), *memory.state_dict().values()]
    return "".join(tensor.numpy().tobytes().hex() for tensor in tensors)


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    # What MKL does on processors of any kind, and what PyTorch does without AVX-512.
    [{"MKL_CBWR": "COMPATIBLE"}, {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}],
    ids=str,
)
def test_their_bits_do_not_depend_on_the_processor(other: dict[str, str]) -> None:
    """Of PyTorch's own, the last ones do: MKL's decomposition in single precision."""
    code = f"from {__name__} import everything; print(everything())"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=os.environ | other, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == everything()
