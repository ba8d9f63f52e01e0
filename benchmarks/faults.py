"""Campaigns of faults: ``python benchmarks/faults.py --rounds 100 --seed 1`` prints what was kept.

Every campaign can be repeated: the seed chooses what is hurt, where and when. Of what depends on the clock (a
kill at a random moment) it chooses the moment, not what the run does then. Fails if a promise was not kept.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import faults_bytes, faults_disk, faults_kills, faults_numerics, faults_signals
from benchmarks.fault_cases import Case, table
from benchmarks.report import command_line

FAMILIES: dict[str, tuple[Callable[[int, random.Random], Case | list[Case]], float]] = {
    "operations": (faults_kills.file_operations, 1.0),
    "moments": (faults_kills.moments, 0.3),
    "signals": (faults_signals.signals, 0.2),
    "flips": (faults_bytes.flips, 10.0),
    "contents": (faults_bytes.contents, 1.0),
    "disks": (faults_disk.disks, 0.1),
    "numerics": (faults_numerics.numerics, 0.1),
}
"""Families of faults, and how many tries each takes for a round: some take milliseconds, some seconds."""


@dataclass(frozen=True)
class Options:
    """Break runs on purpose, and print what was promised and kept."""

    rounds: int = 20
    """How often, in units of a try that takes about a second."""
    seed: int = 1
    """Of what is hurt, where and when."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Which families of faults."""


def campaign(options: Options) -> list[Case]:
    """Try the chosen families of faults."""
    found: list[Case] = []
    for name in options.families:
        family, per_round = FAMILIES[name]
        begun = time.monotonic()
        cases = family(max(1, round(options.rounds * per_round)), random.Random(f"{options.seed} {name}"))
        found += cases if isinstance(cases, list) else [cases]
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def run_campaign(options: Options) -> int:
    """Run the campaign; 1 if a promise was not kept."""
    cases = campaign(options)
    print(f"Campaign of {options.rounds} rounds, seed {options.seed}\n\n{table(cases)}")
    for case in cases:
        for line in case.broken:
            print(f"NOT KEPT: {case.name}: {line}")
    return int(any(case.broken for case in cases))


main = partial(command_line, Options, "faults.py", run_campaign)

if __name__ == "__main__":
    raise SystemExit(main())
