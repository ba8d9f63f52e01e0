"""A check at the start that all ranks run the same program with the same libraries and arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ppo_and_friends.common.versions import code_digest, library_versions
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.processors import NONE, OVERRIDE, instructions
from ppo_and_friends.errors import ReplicationError

VARIABLES = (
    "PPO_AND_FRIENDS_NCCL",
    "PYTHONOPTIMIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that change what is computed, or who talks to whom, on the rank that has them."""

SHOWN = 3
"""Maximum number of differences, and of ranks with one value, that a message lists."""

PROCESSOR = "processor"

Facts = dict[str, str]
"""What a rank runs, by name."""


def facts_of(request: Mapping[str, str]) -> Facts:
    """What must agree on all ranks, of this one.

    Args:
        request: What the rank is asked to do, such as its arguments.
    """
    found = dict(request)
    found |= {name: version for name, version in library_versions().items() if name != "ppo-and-friends"}
    found["the project's code"] = code_digest()
    found |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
    found[PROCESSOR] = instructions()
    return found


def check_ranks(communicator: Communicator, request: Mapping[str, str]) -> list[str]:
    """Check that all ranks are asked for the same, with the same code, libraries and variables. Collective.

    Args:
        communicator: The ranks.
        request: What the rank is asked to do, such as its arguments, by name.

    Returns:
        Differences that don't matter yet but are worth knowing, a line each.

    Raises:
        ReplicationError: On all ranks, if they differ; names what, the values and the ranks.
    """
    if communicator.size == 1:
        return []
    return compare(communicator.gather(facts_of(request)))


def compare(ranks: Sequence[Facts]) -> list[str]:
    """As `check_ranks`, of what all ranks run, in their order."""
    names = list(dict.fromkeys(name for facts in ranks for name in facts if name != PROCESSOR))
    found = [line for name in names if (line := _difference(name, ranks))]
    if found:
        more = f"; and {len(found) - SHOWN} more differences" if len(found) > SHOWN else ""
        raise ReplicationError(
            f"The ranks don't run the same program: {'; '.join(found[:SHOWN])}{more}.\n"
            "Start all with the same command, from the same installation and with the same variables."
        )
    line = _difference(PROCESSOR, ranks)
    if not line:
        return []
    kinds = {facts[PROCESSOR] for facts in ranks}
    if len({kind.split()[0] for kind in kinds}) > 1 or any(kind.endswith(NONE) for kind in kinds):
        # Measured: Adam's steps differ in their last bits, so that the ranks would diverge.
        raise ReplicationError(
            f"The ranks would compute different numbers: {line}.\n"
            f"Use nodes of one kind, or set {OVERRIDE}=default on all of them (slower), if they are x86."
        )
    return [f"Different processors: {line}. Should the ranks diverge, set {OVERRIDE}=avx2 on all of them."]


def _difference(name: str, ranks: Sequence[Facts]) -> str:
    """Which ranks have which value; empty if all have the same."""
    holders: dict[str | None, list[int]] = {}
    for rank, facts in enumerate(ranks):
        holders.setdefault(facts.get(name), []).append(rank)
    if len(holders) == 1:
        return ""
    most = max(holders.values(), key=len)
    parts = []
    for value, having in sorted(holders.items(), key=lambda each: each[1]):
        who = ", ".join(map(str, having[:SHOWN])) + (
            f" and {len(having) - SHOWN} more" if having[SHOWN:] else ""
        )
        whose = "the others" if having is most and len(having) > SHOWN else f"rank {who}"
        parts.append(f"{'not there' if value is None else _short(value)} on {whose}")
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return f"{name}: {', '.join(parts[:SHOWN])}{more}"


def _short(value: str) -> str:
    return value if len(value) <= 100 else f"{value[:97]}..."
