"""Our training rate as a share of the bare vector engine's: ``python benchmarks/speed_gate.py``.

Fails if a launcher that has a floor is below it. One process measures both in turns, in CPU time, and takes
each one's best round, so that other programs change little, and the machine's pace nothing. The floors lie
far below what is reached: the gate finds a second copy of the update, not a few per cent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure_scaling import warm_trainer
from benchmarks.report import script
from ppo_and_friends.distributed.cores import affinity
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.vector.factory import make_vector_env

FLOORS = {"CartPole": 0.015, "BipedalWalker": 0.3}
"""Least share of the bare engine's rate: about half of what is reached, and of what is aimed at."""

SEED, ENGINE_STEPS, TRAINING_SECONDS = 12_345, 8_000, 0.5
"""Of a round: the engine's seed and steps over all environments, and the least CPU time of training."""


@dataclass(frozen=True)
class Options:
    """Compare the training rate with the bare engine's under the same policy's actions."""

    environments: tuple[str, ...] = tuple(FLOORS)
    """Launchers."""
    rounds: int = 3
    """The best of so many, in turns, counts on each side."""


def share(rounds: Sequence[tuple[float, float]]) -> float:
    """The training rate over the engine's, each at its best: what disturbs only ever adds time."""
    training, engine = zip(*rounds, strict=True)
    return float(min(engine) / min(training))


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


def bare_engine(trainer: Trainer) -> Callable[[], float]:
    """Record what the trainer's policy does, as it explores, in fresh environments.

    Returns:
        Repeats these actions in an engine that is seeded alike, with none of our code around each step;
        returns the CPU seconds of a timestep. Raises RuntimeError if the episodes differ.
    """
    settings, layout = trainer.experiment.environment, trainer.layout
    envs, policy = make_vector_env(settings, layout, 1), trainer.agent.policy()
    policy.reset(SEED)
    observations, actions, recorded = envs.reset(SEED), [], 0.0
    for _ in range(max(1, ENGINE_STEPS // layout.total)):
        actions.append(np.array(policy.act(observations, deterministic=False)))
        step = envs.step(actions[-1])
        recorded += float(step.rewards.sum())
        observations = step.observations
    envs.close()

    def repeat() -> float:
        envs = make_vector_env(settings, layout, 1)
        envs.reset(SEED)
        # The library's own step, where there is such a thing.
        engine = envs.env  # type: ignore[attr-defined]
        pool = getattr(engine, "_pool", None)
        step = pool.step if pool is not None else lambda actions: (None, engine.step(actions).rewards)
        rewards: list[float] = []
        seconds = cpu_seconds(lambda: rewards.extend(float(step(row)[1].sum()) for row in actions))
        envs.close()
        if not np.isclose(sum(rewards), recorded, rtol=1e-3, atol=1e-3):
            raise RuntimeError(f"the engine's episodes differ: rewards {sum(rewards)}, before {recorded}")
        return seconds / (len(actions) * layout.total)

    return repeat


def measure(name: str, rounds: int) -> list[tuple[float, float]]:
    """CPU seconds a timestep of training and of the engine, in turns; on one thread."""
    trainer = warm_trainer(name, SoloCommunicator())
    engine = bare_engine(trainer)

    def train() -> None:
        until = time.process_time() + TRAINING_SECONDS
        trainer.train_iteration()
        while time.process_time() < until:
            trainer.train_iteration()

    result = []
    for _ in range(rounds):
        before = trainer.timesteps
        result.append((cpu_seconds(train) / (trainer.timesteps - before), engine()))
    trainer.collector.envs.close()
    return result


@script(Options)
def main(options: Options) -> int:
    """Measure; 1 if a launcher is below its floor."""
    one_core()
    slow = False
    for name in options.environments:
        floor, reached = FLOORS.get(name, 0.0), share(measure(name, options.rounds))
        slow |= reached < floor
        verdict = "no floor" if not floor else f"floor {floor:g}: {'TOO SLOW' if reached < floor else 'ok'}"
        print(f"{name}: {reached:.3f} of the bare engine's rate, {verdict}", flush=True)
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
