"""What the families of faults have in common: a small run, processes to hurt, and what was kept."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from ppo_and_friends.cli.main import main
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest
from ppo_and_friends.runs.checkpoint_validity import check_contents

ROOT = Path(__file__).resolve().parent.parent
NAME = "run"
SMALL = (
    "--environment=CartPole",
    "--no_tensorboard",
    "--num_envs=4",
    "--with=HardReset",
    "--with=ObservationNormalizer",
    "--set=checkpoint_seconds=0",
    "--set=ppo.rollout_timesteps=64",
    "--set=ppo.minibatch_size=64",
    "--set=ppo.epochs=1",
    "--set=network.actor_hidden=8",
    "--set=network.critic_hidden=8",
)
"""Iterations of a few milliseconds with a checkpoint each. Environments begin anew with each, so that a run
that was interrupted must end with the very numbers of one that wasn't."""

SECONDS = 120.0
"""After which a process hangs."""


@dataclass
class Case:
    """A kind of fault, and how often a run kept its promise."""

    name: str
    """What goes wrong."""

    promise: str
    """What must hold nevertheless."""

    tries: int = 0
    """How often it was tried."""

    broken: list[str] = field(default_factory=list)
    """What went wrong, a line for each try in which the promise was not kept."""

    def judge(self, problem: str | None) -> None:
        """Count a try; ``problem`` says what was not kept, None that all was."""
        self.tries += 1
        if problem:
            self.broken.append(problem)

    @property
    def kept(self) -> int:
        """Number of tries in which the promise was kept."""
        return self.tries - len(self.broken)


def table(cases: Sequence[Case]) -> str:
    """The cases as a Markdown table."""
    rows = [("Case", "Tries", "Promise", "Kept")]
    rows += [(case.name, f"{case.tries:,}", case.promise, f"{case.kept:,}") for case in cases]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def arguments(home: Path, timesteps: int, *more: str) -> list[str]:
    """The command line's arguments for a small run below a folder."""
    return [*SMALL, f"--run_folder={run_folder(home)}", f"--num_timesteps={timesteps}", *more]


def run_folder(home: Path) -> Path:
    """Where the run of `arguments` is kept."""
    return home / NAME


def newest(home: Path) -> Checkpoint | None:
    """The newest intact checkpoint of the run of `arguments`."""
    return load_latest(run_folder(home) / "checkpoints", check_contents)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    """Exit status; minus the number of the signal that killed it."""

    text: str
    """Its output and errors."""

    @property
    def complaint(self) -> str | None:
        """What its text must not have: a traceback."""
        return f"traceback: {self.text.strip().splitlines()[-1]}" if "Traceback" in self.text else None


@cache
def preload() -> None:
    """Train for a moment in this process, so that its children find all libraries loaded."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        main(arguments(Path(place), 64))


def in_child(given: Sequence[str], before: Callable[[], None] = lambda: None) -> Ended:
    """Run the command line in a forked child, which has all libraries loaded already.

    Args:
        given: The arguments.
        before: Called in the child first; sets up what goes wrong.
    """
    preload()
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                signal.alarm(int(SECONDS))
                torch.set_num_threads(1)
                before()
                try:
                    status = main(given)
                except SystemExit as ended:
                    status = ended.code if isinstance(ended.code, int) else 1
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _, how = os.waitpid(child, 0)
        output.seek(0)
        return Ended(os.waitstatus_to_exitcode(how), output.read().decode(errors="replace"))


def started(given: Sequence[str], ranks: int = 1) -> subprocess.Popen[bytes]:
    """Start the command line on ranks of its own, in a process group of its own."""
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = [str(beside) if beside.exists() else "mpirun", "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen(
        [*mpirun, sys.executable, str(ROOT / "main.py"), *given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # A campaign under nohup ignores it, and what it starts would as well.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def iterations(home: Path) -> list[int]:
    """The iterations with a row in ``progress.csv``, in order."""
    path = run_folder(home) / "progress.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file) if (row["iteration"] or "").isdigit()]


def differing(one: Checkpoint, other: Checkpoint) -> str | None:
    """Which tensor differs between two checkpoints, bit for bit; None: none does."""
    if one.tensors.keys() != other.tensors.keys():
        return "other tensors"
    for name, tensor in one.tensors.items():
        # By their bytes, since a statistic that isn't there yet is NaN, which equals nothing.
        if tensor.detach().numpy().tobytes() != other.tensors[name].detach().numpy().tobytes():
            return name
    return None


def complete(home: Path, timesteps: int) -> str | None:
    """What a finished run lacks; None if it has its checkpoint and each row once."""
    last = newest(home)
    if last is None or last.timesteps < timesteps:
        return "the run isn't complete"
    rows = iterations(home)
    if rows != list(range(1, last.state["iteration"] + 1)):
        return f"progress.csv has the iterations {rows[:20]}, of {last.state['iteration']}"
    return None
