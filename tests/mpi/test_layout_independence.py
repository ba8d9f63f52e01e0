"""Layout independence under real MPI: 16 environments on 1, 2 and 3 ranks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
RunMPI = Callable[..., "subprocess.CompletedProcess[str]"]

SCRIPT = """
import json, sys
from functools import partial
from gymnasium import spaces
from ppo_and_friends.distributed.launch import guard, make_communicator
comm = make_communicator()
with guard(comm):
    from ppo_and_friends.runs.build import build_trainer
    from ppo_and_friends.distributed.replication import assert_replicated
    from ppo_and_friends.vector.factory import make_vector_env
    from ppo_and_friends.distributed.layout import divide
    from tests.engine import Identity, experiment
    from tests.test_layout_independence import FRIENDS
    found = {}
    toy = partial(Identity, spaces.MultiDiscrete([3, 2]))
    for name, environment in (("CartPole", "CartPole-v1"), ("Pendulum", "Pendulum-v1"), ("toy", toy)):
        for precision, friends in (("float32", ()), ("float64", FRIENDS)):
            settings = experiment(environment, friends, precision=precision)
            layout = divide(16, comm.rank, comm.size)
            envs = make_vector_env(settings.environment, layout)
            trainer = build_trainer(settings, comm, envs)
            for _ in range(3):
                metrics = trainer.train_iteration()
            tensors = {n: t.detach().numpy() for n, t in trainer.agent.tensors().items()}
            assert_replicated(comm, tensors)
            found[f"{name} {precision}"] = {n: t.tolist() for n, t in tensors.items()}
            found[f"{name} {precision}"]["timesteps"] = trainer.timesteps
            envs.close()
    if comm.is_main:
        with open(sys.argv[1], "w") as file:
            json.dump(found, file)
"""


def test_the_same_parameters_on_1_2_and_3_ranks(run_mpi: RunMPI, tmp_path: Any) -> None:
    script = tmp_path / "layout.py"
    script.write_text(SCRIPT)
    found = []
    for size in (1, 2, 3):
        result = tmp_path / f"{size}.json"
        done = run_mpi(size, [str(script), str(result)], timeout=60)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(result.read_text()))
    alone = found[0]
    assert len(alone) == 6
    for other in found[1:]:
        for run, tensors in alone.items():
            tolerance = 1e-5 if "float32" in run else 1e-9
            for name, expected in tensors.items():
                np.testing.assert_allclose(
                    other[run][name], expected, atol=tolerance, rtol=tolerance, err_msg=f"{run} {name}"
                )
