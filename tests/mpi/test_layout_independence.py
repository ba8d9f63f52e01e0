"""Layout independence under real MPI: 16 environments on 1, 2 and 3 ranks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import rows, run, spawn, toy
from tests.toys import FOLDER

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
        for name_of_run, tensors in alone.items():
            tolerance = 1e-5 if "float32" in name_of_run else 1e-9
            for name, expected in tensors.items():
                np.testing.assert_allclose(
                    other[name_of_run][name],
                    expected,
                    atol=tolerance,
                    rtol=tolerance,
                    err_msg=f"{name_of_run} {name}",
                )


def test_deterministic_shards_are_equal_to_the_bit_and_so_is_a_resumed_run(
    mpirun_path: str, tmp_path: Path
) -> None:
    """Four shards on 1 rank, then on 3 (2 + 1 + 1), and the other way round."""
    option = "--set=deterministic_shards=4"
    for order in ((1, 3), (3, 1)):
        for ranks, timesteps in zip(order, (384, 640), strict=True):
            done = spawn(
                *toy(tmp_path / str(order[0]), option, timesteps=timesteps),
                before=(mpirun_path, "-n", str(ranks)) if ranks > 1 else (),
            )
            assert done.status == 0, done.err
    found = [tmp_path / str(first) / FOLDER for first in (1, 3)]
    names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in found]
    assert names[0] == names[1] and len(names[0]) == 3  # two checkpoints and `latest`
    for name in names[0][:2]:
        first, second = (folder / "checkpoints" / name / "tensors.safetensors" for folder in found)
        assert first.read_bytes() == second.read_bytes()
    assert rows(tmp_path / "1") == rows(tmp_path / "3")
    done = run("--compare", *found)
    assert done.status == 0 and "Checkpoints: equal bit for bit, 2 checkpoints" in done.out
    assert "Metrics: equal in 6 iterations" in done.out
