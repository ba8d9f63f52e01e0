"""Which instructions this machine's processor has, as PyTorch chooses its kernels by them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
WIDEST = {
    "AVX512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"},
    "AVX2": {"avx2", "fma"},
}
"""PyTorch's name of its kernels, widest first, to the flags that they need."""

NONE = "no vector instructions"
OVERRIDE = "ATEN_CPU_CAPABILITY"
"""Environment variable with which PyTorch takes narrower kernels."""


def instructions(variables: Mapping[str, str] = os.environ, info: Path = CPU_INFO) -> str:
    """Return the architecture and, on x86, the vector instructions that PyTorch uses: ``x86_64 AVX2``.

    It doesn't import PyTorch, which takes a second.

    Args:
        variables: The environment variables.
        info: The file with the processor's flags.
    """
    machine = platform.machine()
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return machine
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), None)
    if flags is None:  # not an x86 processor
        return machine
    able = [name for name, needed in WIDEST.items() if needed <= flags]
    asked = variables.get(OVERRIDE, "").upper()
    if asked in (*WIDEST, "DEFAULT"):
        able = able[able.index(asked) :] if asked in able else ([] if asked == "DEFAULT" else able)
    return f"{machine} {able[0] if able else NONE}"
