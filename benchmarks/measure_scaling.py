"""Measures what an iteration costs a rank, and what an Allreduce costs; started by ``scaling_model.py``.

``measure_scaling.py SPECIFICATION.json RESULT.json`` on some MPI ranks. The specification: environments,
seconds (of each), sizes (bytes of the buffers to sum). It serves on a cluster too: see docs/performance.md.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.launch import guard, make_communicator
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.factory import make_vector_env

ALLREDUCES = 60
"""Of each size; the median counts, after a tenth of them to warm up."""

COLLECTIVES = ("sum_", "max_", "broadcast_", "broadcast", "concatenate", "gather", "barrier")


@contextmanager
def metered(communicator: Communicator) -> Iterator[dict[str, float]]:
    """Count the communicator's sums and their bytes, and the CPU time that any collective takes."""
    meter = {"sums": 0, "bytes": 0, "cpu": 0.0}

    def wrapped(name: str) -> Callable[..., Any]:
        collective = getattr(communicator, name)

        def call(*arguments: Any) -> Any:
            if name == "sum_":
                meter["sums"] += 1
                meter["bytes"] += arguments[0].nbytes
            start = time.process_time()
            try:
                return collective(*arguments)
            finally:
                meter["cpu"] += time.process_time() - start

        return call

    with mock.patch.multiple(communicator, **{name: wrapped(name) for name in COLLECTIVES}):
        yield meter


def warm_trainer(name: str, communicator: Communicator) -> Trainer:
    """A launcher's trainer after its first iteration. A collective."""
    experiment = resolve(name)
    layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
    trainer = build_trainer(experiment, communicator, make_vector_env(experiment.environment, layout, 1))
    trainer.train_iteration()
    return trainer


def iterations(name: str, communicator: Communicator, seconds: float) -> dict[str, Any]:
    """Train for a while with the launcher's settings. A collective.

    CPU seconds, since ranks may share cores, and without what goes by in collectives, where a rank polls
    for the others; seconds by the clock; sums and their bytes; all of an iteration.
    """
    trainer = warm_trainer(name, communicator)
    count, late, began, cpu = 0, False, time.perf_counter(), time.process_time()
    with metered(communicator) as meter:
        while not late or count < 2:
            trainer.train_iteration()
            count += 1
            late = bool(communicator.broadcast(time.perf_counter() - began > seconds))
    own = (time.process_time() - cpu - meter["cpu"]) / count
    elapsed = time.perf_counter() - began
    everyone = communicator.gather(own)
    trainer.collector.envs.close()
    return {
        "cpu_seconds": statistics.mean(everyone),
        "most_cpu_seconds": max(everyone),
        "seconds": elapsed / count,
        "sums": meter["sums"] / count,
        "sum_bytes": meter["bytes"] / count,
        "iterations": count,
        "parameters": trainer.optimizer.parameters.numel(),
        "num_envs": trainer.layout.total,
        "timesteps": trainer.layout.total * trainer.collector.steps,
    }


def allreduce(size: int, communicator: Communicator) -> float:
    """Median seconds by the clock of a sum of ``size`` bytes of float32. A collective."""
    array = np.ones(max(1, size // 4), dtype=np.float32)
    times = []
    for _ in range(ALLREDUCES):
        communicator.barrier()
        start = time.perf_counter()
        communicator.sum_(array)
        times.append(time.perf_counter() - start)
        array.fill(1.0)
    return max(communicator.gather(statistics.median(times[ALLREDUCES // 10 :])))


def main() -> None:
    """Measure, and write what was measured."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    communicator = make_communicator()
    with guard(communicator):
        names, sizes = spec["environments"], spec["sizes"]
        result = {
            "ranks": communicator.size,
            "iterations": {name: iterations(name, communicator, spec["seconds"]) for name in names},
            "allreduce": {str(size): allreduce(size, communicator) for size in sizes},
        }
        if communicator.is_main:
            Path(sys.argv[2]).write_text(json.dumps(result))
        communicator.barrier()


if __name__ == "__main__":
    main()
