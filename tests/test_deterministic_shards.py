"""A run of deterministic shards learns the same, bit for bit, on any number of ranks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ppo_and_friends import Run, launcher_experiment
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.factory import make_vector_env
from tests.command_line import run, toy
from tests.digests import EXPERIMENTS, FRIENDLY
from tests.friends.runs import drift
from tests.friends.runs import experiment as small_experiment
from tests.friends.test_together import SPACES, compatible, spec
from tests.test_shards import on_shards

SHARDS = 4
ITERATIONS = 2
NAMES = (
    *(make.__name__ for make in FRIENDLY),
    # An engine or a feature each; `benchmarks/layouts.py` has all launchers, under mpirun.
    *("Swimmer", "BipedalWalker", "Humanoid", "BreakoutPixels"),
    *("Taxi", "CardMemory", "CartPolePositions"),
)


def learned(experiment: Experiment, processes: int, shards: int = SHARDS) -> dict[str, bytes]:
    """All parameters, statistics and moments after some iterations; equal on all shards."""

    def shard(communicator: Communicator) -> dict[str, bytes]:
        layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
        with closing(make_vector_env(experiment.environment, layout, 1, experiment.agents)) as envs:
            trainer = build_trainer(experiment, communicator, envs)
            for _ in range(ITERATIONS):
                trainer.train_iteration()
            tensors = trainer.agent.tensors() | trainer.optimizer.state()
            return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}

    found = on_shards(shards, processes, shard)
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_on_one_process_and_on_three(name: str) -> None:
    experiment = replace(EXPERIMENTS[name](), precision="float32")
    alone, divided = (learned(experiment, processes) for processes in (1, 3))
    assert [key for key in alone if divided[key] != alone[key]] == []


@pytest.mark.parametrize("draw", range(5))
def test_the_same_bits_with_random_sets_of_friends(draw: int) -> None:
    random = np.random.default_rng(100 + draw)
    space = SPACES[draw]
    names = random.permutation(list(BUILT_IN))[: random.integers(4, 14)].tolist()
    chosen = [spec(name, space) for name in compatible(names, space)]
    experiment = replace(small_experiment(chosen, drift(space)), precision="float32")
    assert learned(experiment, 1) == learned(experiment, 3), [each.name for each in chosen]


def test_another_number_of_shards_is_another_run() -> None:
    """In the last bits, which a sum's order changes: otherwise the test above would compare nothing."""
    experiment = replace(EXPERIMENTS["normalised_cart_pole"](), precision="float32")
    assert learned(experiment, 1, shards=2) != learned(experiment, 1, shards=4)


def test_shards_without_an_environment_are_refused(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "--set=deterministic_shards=5"))
    assert done.status == 2 and len(done.complaint) == 1
    assert "each shard needs an environment, and there are 4" in done.err


def test_a_run_that_moves_to_other_ranks_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Exactly resumed, environments included: three iterations on three processes, the rest on one."""
    experiment = launcher_experiment("Pendulum").with_changes(
        {
            "deterministic_shards": 4,
            "exact_resume": True,
            "environment.backend": "gymnasium",
            "ppo.rollout_timesteps": 128,
            "ppo.minibatch_size": 64,
        },
        num_envs=8,
        num_timesteps=640,
    )

    def train(communicator: Communicator, folder: str, iterations: int) -> None:
        with Run(experiment, tmp_path / folder, communicator=communicator, tensorboard=False) as run_:
            for _ in zip(range(iterations), run_.iterations(), strict=False):
                pass

    train(SoloCommunicator(), "stayed", 5)
    run_threaded(3, lambda communicator: train(communicator, "moved", 3))
    train(SoloCommunicator(), "moved", 2)
    done = run("--compare", tmp_path / "stayed", tmp_path / "moved")
    metrics, checkpoints = done.out.splitlines()
    assert metrics == "Metrics: equal in 5 iterations, times aside."
    assert checkpoints.startswith("Checkpoints: equal bit for bit, 1 checkpoint")
