"""Trains a launcher and evaluates it for ``contrib.py``: ``contrib_ours.py SPEC.json RESULT.json``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.evaluate_run import SEED
from ppo_and_friends import evaluate, train
from ppo_and_friends.settings.overrides import apply_settings
from ppo_and_friends.settings.registry import resolve


def measured(spec: dict[str, Any]) -> dict[str, float]:
    """Rates, and the mean return of the evaluation.

    The first iteration warms up: it counts only where there is no other one.
    """
    torch.set_num_threads(1)
    experiment = apply_settings(resolve(spec["name"]), spec["changes"]).with_changes(random_seed=spec["seed"])
    run = train(experiment, folder=None, verbosity=-1)
    marks = [(0, time.perf_counter(), time.process_time())]
    marks += [
        (int(metrics["timesteps"]), time.perf_counter(), time.process_time()) for metrics in run.iterations()
    ]
    begin, end = marks[min(1, len(marks) - 2)], marks[-1]
    steps, wall, cpu = (last - first for first, last in zip(begin, end, strict=True))
    outcome = evaluate(run.policy(), spec["episodes"], seed=SEED)
    return {"steps_per_second": steps / wall, "steps_per_cpu_second": steps / cpu, "mean": outcome.mean}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measured(json.loads(Path(sys.argv[1]).read_text()))))
