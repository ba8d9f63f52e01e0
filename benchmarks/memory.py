"""Peak memory of a rank, launcher by launcher: ``python benchmarks/memory.py --help``.

Each launcher runs the command a user would type, for a few iterations, on one rank: with more ranks each has
fewer environments and a smaller share of the rollout. ``long_run.py`` finds what grows.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import last_line, run_alone
from benchmarks.report import ROOT, markdown, save, script, stamp
from ppo_and_friends.settings.registry import all_launchers, resolve

LIMITS = {"images": 1500.0, "the others": 600.0}
"""Megabytes that a rank may take."""

UNIT = 1024 if sys.platform != "darwin" else 1024**2  # of ru_maxrss, in a megabyte
WITH_PEAK = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
"""Runs a command and adds a line with its peak memory."""


@dataclass(frozen=True)
class Options:
    """Measure the peak memory of a rank."""

    environments: tuple[str, ...] = ()
    """Launchers; none: all of them."""
    iterations: int = 3
    """Rollouts and updates of each."""
    output: Path = Path("results/speed/memory.json")
    """Where the peaks go; a table goes beside it."""


def peak(name: str, iterations: int) -> dict[str, Any]:
    """Train for some iterations; returns the peak memory, in megabytes (2^20 bytes), and sizes."""
    experiment = resolve(name)
    steps = iterations * experiment.ppo.rollout_timesteps
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", WITH_PEAK, sys.executable, str(ROOT / "main.py"), "-e", name]
        command += ["--state_path", place, "-q", "--num_timesteps", str(steps)]
        log = Path(place) / "log"
        run_alone(name, command, log)
        most = int(last_line(log)) / UNIT
    atari = experiment.environment.atari
    images = atari is not None and atari.observation == "pixels"
    return {
        "megabytes": most,
        "num_envs": experiment.environment.num_envs,
        "rollout_timesteps": experiment.ppo.rollout_timesteps,
        "limit": LIMITS["images" if images else "the others"],
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    keys = ("num_envs", "rollout_timesteps", "megabytes", "limit")
    cells = [[name, *(f"{row[key]:,.0f}" for key in keys)] for name, row in rows.items()]
    return markdown(("launcher", "environments", "timesteps", "peak MB", "at most"), cells) + "\n"


@script(Options)
def main(options: Options) -> int:
    """Measure; 1 if a launcher is above its limit."""
    iterations, rows = options.iterations, {}
    for name in options.environments or [launcher.name for launcher in all_launchers()]:
        rows[name] = peak(name, iterations)
        print(f"{name}: {rows[name]['megabytes']:,.0f} MB of {rows[name]['limit']:,.0f}", flush=True)
    save(options.output, stamp() | {"iterations": iterations, "rows": rows}, table(rows))
    return int(any(row["megabytes"] > row["limit"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
