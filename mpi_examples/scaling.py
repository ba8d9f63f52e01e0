"""Measures training speed with several ranks: ``python mpi_examples/scaling.py BipedalWalker 1 2``."""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MAIN = Path(__file__).resolve().parent.parent / "main.py"
ITERATIONS = 8


def rate(name: str, ranks: int) -> float:
    """Return the median steps per second of a short run, without its first iteration.

    Args:
        name: Name of the launcher, such as ``BipedalWalker``.
        ranks: Number of MPI ranks, at least 1.
    """
    mpirun = Path(sys.executable).parent / "mpirun"
    command = [str(mpirun if mpirun.exists() else shutil.which("mpirun")), "-n", str(ranks), sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        budget = f"--num_timesteps={ITERATIONS * 8192}"
        options = ["-e", name, "--state_path", folder, budget, "--no_tensorboard", "-q"]
        subprocess.run([*command, str(MAIN), *options], check=True)
        (progress,) = Path(folder).glob("*/progress.csv")
        with progress.open(newline="") as file:
            rates = [float(row["steps_per_second"]) for row in csv.DictReader(file)]
    return statistics.median(rates[1:] or rates)


def main() -> None:
    """Measure the launcher and the numbers of ranks given on the command line."""
    name, *counts = sys.argv[1:] or ["BipedalWalker", "1", "2"]
    first = None
    for ranks in map(int, counts):
        measured = rate(name, ranks)
        first = first or measured
        print(f"{name}: {ranks} ranks {measured:,.0f} steps/s, {measured / first:.2f} x", flush=True)


if __name__ == "__main__":
    main()
