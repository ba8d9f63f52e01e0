"""Runs the command line, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppo_and_friends.cli.main import main
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest
from tests.conftest import ROOT, clean_environment
from tests.toys import FOLDER, NAME

TIMED = ("seconds", "steps_per_second")
"""Columns, with those that begin with ``time_``, that no two runs have alike."""

SMALL = (
    "--num_envs=4",
    "--no_tensorboard",
    "--set=ppo.rollout_timesteps=128",
    "--set=ppo.minibatch_size=64",
    "--set=ppo.epochs=2",
    "--set=network.actor_hidden=16",
    "--set=network.critic_hidden=16",
)
"""Iterations of 128 timesteps that take some milliseconds."""


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> list[str]:
        """The lines of an error, which must be short and no traceback."""
        assert "Traceback" not in self.err, self.err
        return [line for line in self.err.splitlines() if line.strip()]


def run(*arguments: str | Path) -> Done:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: Any = main([str(argument) for argument in arguments])
        except SystemExit as done:
            status = done.code or 0
    return Done(status, out.getvalue(), err.getvalue())


def spawn(
    *arguments: str | Path,
    before: Sequence[str] = (),
    timeout: float = 60,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Done:
    """Run ``python main.py`` in a process of its own, perhaps with ``mpirun -n 2`` before it."""
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "main.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env=clean_environment() | (env or {}),
        **options,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def toy(state_path: Path, *arguments: str, timesteps: int = 640) -> list[str]:
    """Arguments that train the toy for five small iterations."""
    return ["-e", NAME, "--state_path", str(state_path), f"--num_timesteps={timesteps}", *SMALL, *arguments]


def rows(state_path: Path, folder: str = FOLDER) -> list[dict[str, str]]:
    """The rows of ``progress.csv`` without what is measured by the clock."""
    with open(state_path / folder / "progress.csv", newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in TIMED and not name.startswith("time_")}
            for row in csv.DictReader(file)
        ]


def iterations(state_path: Path, folder: str = FOLDER) -> list[int]:
    """The iterations that have a row, in the order of the rows."""
    return [int(row["iteration"]) for row in rows(state_path, folder)]


def latest(state_path: Path, folder: str = FOLDER) -> Checkpoint:
    """The newest whole checkpoint."""
    found = load_latest(state_path / folder / "checkpoints")
    assert found is not None
    return found


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())
