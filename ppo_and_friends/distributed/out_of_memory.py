"""What a user is told when memory runs out, whoever noticed it."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

ADVICE = (
    "Fewer environments (--num_envs), a shorter rollout (--set ppo.rollout_timesteps=...) or smaller "
    "networks need less."
)
SIGNS = ("can't allocate memory", "out of memory")
"""In PyTorch's errors, which are of the type RuntimeError."""


def out_of_memory(error: BaseException) -> str | None:
    """Two lines on Python's, NumPy's or PyTorch's error that memory ran out; None: it is another error."""
    said = str(error)
    of_torch = isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)
    if not (of_torch or isinstance(error, MemoryError)):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    # NumPy: "Unable to allocate 7.45 GiB for"; PyTorch: "tried to allocate 8000000000 bytes" or "2.00 GiB".
    asked = re.search(r"allocate ([\d.]+) ?(bytes|[KMGTPE]?i?B)", said)
    return f"Out of memory{place}{f', asked for {_amount(*asked.groups())}' if asked else ''}.\n{ADVICE}"


def _amount(number: str, unit: str) -> str:
    if unit != "bytes":
        return f"{number} {unit}"
    return f"{float(number) / 2**30:.3g} GiB"
