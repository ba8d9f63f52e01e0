"""Peak memory of a rank, launcher by launcher: ``python benchmarks/memory.py --help``.

Each runs the command a user would type, for a few iterations, on one rank: with more ranks each has fewer
environments and a smaller share of the rollout. A process's peak is what the system notes of it at its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import last_line
from benchmarks.measurements import MeasurementError, ended_by_interrupt, plain_variables
from benchmarks.runs import ROOT, source_state
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import PPOError
from ppo_and_friends.settings.registry import all_launchers, resolve

POLL_SECONDS = 0.02

LIMITS = {"images": 1500.0, "the others": 600.0}
"""Megabytes that a rank may take."""


@dataclass(frozen=True)
class Options:
    """Measure the peak memory of a rank."""

    environments: tuple[str, ...] = ()
    """Launchers; none: all of them."""

    iterations: int = 3
    """Rollouts and updates of each."""

    output: Path = Path("results/speed/memory.json")
    """Where the measurements go; a table goes beside it."""


def _peak_of(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process's end; the most memory that it held, in megabytes.

    Linux's ``ru_maxrss`` counts what the parent held when it forked, too; the high-water mark in ``/proc`` is
    of the program alone.
    """
    mark = Path(f"/proc/{process.pid}/status")
    kilobytes = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        with contextlib.suppress(OSError):
            lines = mark.read_text().splitlines()
            kilobytes = max(
                [kilobytes, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))]
            )
        time.sleep(POLL_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if kilobytes:
        return kilobytes / 1024
    return usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def peak(name: str, iterations: int) -> dict[str, Any]:
    """Train for some iterations; returns the most memory held, in megabytes (2^20 bytes), and sizes.

    Raises:
        MeasurementError: The training failed.
    """
    experiment = resolve(name)
    steps = iterations * experiment.ppo.rollout_timesteps
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, str(ROOT / "main.py"), "-e", name, "--state_path", place, "-q"]
        log = Path(place) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--num_timesteps", str(steps)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=plain_variables(),
            )
            megabytes = _peak_of(process)
        if process.returncode:
            raise MeasurementError(f"{name} failed: {last_line(log)}")
    atari = experiment.environment.atari
    images = atari is not None and atari.observation == "pixels"
    return {
        "megabytes": megabytes,
        "num_envs": experiment.environment.num_envs,
        "rollout_timesteps": experiment.ppo.rollout_timesteps,
        "limit": LIMITS["images" if images else "the others"],
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| launcher | environments | timesteps | peak MB | at most |", "|---|---:|---:|---:|---:|"]
    for name, row in rows.items():
        sizes = f"{row['num_envs']:,} | {row['rollout_timesteps']:,}"
        lines.append(f"| {name} | {sizes} | {row['megabytes']:,.0f} | {row['limit']:,.0f} |")
    return "\n".join(lines) + "\n"


@ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 if all are within their limits, 1 if one isn't, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/memory.py")
    rows: dict[str, dict[str, Any]] = {}
    try:
        for name in options.environments or [launcher.name for launcher in all_launchers()]:
            rows[name] = peak(name, options.iterations)
            print(f"{name}: {rows[name]['megabytes']:,.0f} MB of {rows[name]['limit']:,.0f}", flush=True)
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    results = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": source_state(),
        "iterations": options.iterations,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(options.output, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), table(rows).encode())
    return int(any(row["megabytes"] > row["limit"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
