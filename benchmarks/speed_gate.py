"""Fails if training has become slow beside the bare vector engine: ``python benchmarks/speed_gate.py``.

One process measures both in turns, in CPU time and not by the clock, and takes each one's best round.
So what else the machine does changes little, and how fast it is nothing. The floors lie far below what
is reached: the gate finds a loop over environments in Python or a second copy of the update, not a few
per cent. ``speed.py`` measures; this guards.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bare_engine import record
from ppo_and_friends.distributed.cores import affinity
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.factory import make_vector_env

FLOORS = {"CartPole": 0.015, "BipedalWalker": 0.3}
"""Least share of the bare engine's rate: about half of what is reached, and of what is aimed at."""

ENGINE_STEPS = 8_000
"""Steps over all environments in a round of the bare engine."""

TRAINING_SECONDS = 0.5
"""CPU time of training in a round, at least; at least one iteration."""


@dataclass(frozen=True)
class Options:
    """Compare the training rate with the bare engine's under the same policy's actions."""

    environments: tuple[str, ...] = tuple(FLOORS)
    """Launchers that have a floor."""

    rounds: int = 3
    """The best of so many, in turns, counts on each side."""


@dataclass(frozen=True)
class Round:
    """CPU seconds a timestep."""

    training: float
    engine: float


def share(rounds: Sequence[Round]) -> float:
    """The training rate over the engine's, each at its best: what disturbs only ever adds time."""
    return min(one.engine for one in rounds) / min(one.training for one in rounds)


def one_core() -> None:
    """Bind this process to a core, where the engine's own thread and ours take turns."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(affinity())})


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU time of all of this process's threads during ``work``."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(name: str, rounds: int) -> list[Round]:
    """Train, and drive the engine, in turns; on one thread.

    Args:
        name: A launcher.
        rounds: How many turns.

    Raises:
        PPOError: The environment is unknown or fails.
    """
    experiment = resolve(name)
    layout = divide(experiment.environment.num_envs, 0, 1)
    envs = make_vector_env(experiment.environment, layout, 1)
    trainer = build_trainer(experiment, SoloCommunicator(), envs)
    trainer.train_iteration()  # warms up
    recording = record(trainer, experiment.environment, layout, 1, max(1, ENGINE_STEPS // layout.total))

    def train() -> None:
        until = time.process_time() + TRAINING_SECONDS
        trainer.train_iteration()
        while time.process_time() < until:
            trainer.train_iteration()

    result = []
    for _ in range(rounds):
        before = trainer.timesteps
        training = cpu_seconds(train) / (trainer.timesteps - before)
        bare = recording.engine()
        engine = cpu_seconds(lambda: recording.replay(bare)) / (recording.steps * layout.total)  # noqa: B023
        bare.close()
        result.append(Round(training, engine))
    envs.close()
    return result


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 if all are above their floors, 1 if one isn't, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/speed_gate.py")
    one_core()
    slow = False
    try:
        if unknown := set(options.environments) - set(FLOORS):
            raise UsageError(
                f"No floor for {', '.join(sorted(unknown))}: there is one for {', '.join(FLOORS)}."
            )
        for name in options.environments:
            floor = FLOORS[name]
            reached = share(measure(name, options.rounds))
            slow |= reached < floor
            verdict = "TOO SLOW" if reached < floor else "ok"
            print(f"{name}: {reached:.3f} of the bare engine's rate, floor {floor:g}: {verdict}", flush=True)
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
