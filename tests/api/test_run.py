"""Runs from Python: to the end or step by step, stopped, gone on with, and what they leave behind."""

from __future__ import annotations

import gc
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends import Experiment, Interrupted, Run, evaluate, launcher_experiment, load_policy, train
from ppo_and_friends.distributed import watchdog
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import FriendSpec
from tests.command_line import latest, rows
from tests.conftest import ROOT, RunMPI, clean_environment
from tests.toys import NAME, Toy

SMALL = {
    "ppo.rollout_timesteps": 128,
    "ppo.minibatch_size": 64,
    "ppo.epochs": 1,
    "network.actor_hidden": (16,),
    "network.critic_hidden": (16,),
}


def small(name: str = "CartPole", timesteps: int = 640, **settings: Any) -> Experiment:
    """Iterations of 128 timesteps."""
    experiment = launcher_experiment(name).with_changes({**SMALL, **settings}, num_envs=4)
    return experiment.with_changes(num_timesteps=timesteps, device="cpu")


def with_signal(experiment: Experiment, **arguments: Any) -> Experiment:
    spec = FriendSpec("tests.toys:SignalAt", arguments)
    return Experiment(**{**vars(experiment), "friends": (*experiment.friends, spec)})


def weights(run: Run) -> np.ndarray:
    return np.concatenate([t.numpy().ravel() for t in run.policy().agent.network.state_dict().values()])


def test_with_a_folder_it_is_trained_when_it_returns(tmp_path: Path) -> None:
    run = train(small(), tmp_path / "run", verbosity=-1)
    assert run.timesteps >= 640 and not run.interrupted
    assert run.timesteps == latest(tmp_path, "run").timesteps == run.metrics["timesteps"][-1]
    assert len(run.metrics["episode_return_mean"]) == run.new_iterations == len(rows(tmp_path, "run"))
    policy, loaded = run.policy(), load_policy(tmp_path / "run")
    for name, tensor in policy.agent.tensors().items():
        assert torch.equal(tensor, loaded.agent.tensors()[name])
    again = train(run.experiment, tmp_path / "run", verbosity=-1)
    assert again.new_iterations == 0 and again.timesteps == run.timesteps


def test_in_memory_it_learns_the_same_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = train(small(), tmp_path / "run", verbosity=-1)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run = train(small())
    assert run.new_iterations == 0 and run.timesteps == 0
    seen = [metrics["timesteps"] for metrics in run.iterations()]
    assert seen == run.metrics["timesteps"].tolist() == saved.metrics["timesteps"].tolist()
    assert np.array_equal(weights(run), weights(saved))
    assert run.metrics.keys() == saved.metrics.keys()
    np.testing.assert_allclose(run.metrics["policy_loss"], saved.metrics["policy_loss"], rtol=1e-9)
    assert list(run.iterations()) == []
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("kept", [False, True])
def test_a_loop_can_be_left_and_come_back_to(kept: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run" if kept else None
    run = Run(small(), folder, tensorboard=False)
    for metrics in run.iterations():
        if metrics["iteration"] == 2:
            break
    assert run.new_iterations == 2 and run.metrics["iteration"].tolist() == [1, 2]
    half = weights(run)
    if kept:  # saved, and free for others
        assert latest(tmp_path, "run").state["iteration"] == 2
        Run(run.experiment, folder).close()
    assert next(metrics["iteration"] for metrics in run.iterations()) == 3
    run.finish()
    assert not np.array_equal(weights(run), half)
    assert run.timesteps >= 640
    assert run.metrics["iteration"].tolist() == list(range(1, run.new_iterations + 1))


def test_nothing_begun_is_trained_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(train(small(), verbosity=-1).metrics["kl"]) >= 5
    assert train(small(), verbosity=-1).policy().timesteps >= 640
    assert capsys.readouterr().out == ""
    for _ in train(small(timesteps=100)).iterations():  # whoever loops speaks
        continue
    assert capsys.readouterr().out == ""
    train(small(timesteps=100)).finish()
    assert "CartPole" in capsys.readouterr().out


def test_what_a_loop_that_failed_holds_is_free_again(tmp_path: Path) -> None:
    """As in a notebook, which keeps the traceback, and so the loop, of a cell that failed."""
    kept = None
    try:
        for _ in Run(small(), tmp_path / "run").iterations():
            raise ZeroDivisionError
    except ZeroDivisionError as error:
        kept = error
    run = Run(small(), tmp_path / "run", verbosity=-1).finish()
    assert kept is not None and run.metrics["iteration"][-1] == run.new_iterations + 1


def test_closed_in_memory(tmp_path: Path) -> None:
    with train(small()) as run:
        next(iter(run.iterations()))
    assert run.policy().timesteps == run.timesteps > 0 and len(run.metrics["kl"]) == 1
    with pytest.raises(UsageError, match="was closed"):
        run.finish()


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    """Not even the last bits of the initial weights, whose orthogonal matrices LAPACK computes."""
    experiment = launcher_experiment("CartPole").with_changes(num_timesteps=128, num_envs=4)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(weights(train(experiment)))
    assert found[0].size > 8000 and found[0].tobytes() == found[1].tobytes()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Handlers, threads, files and the folder's lock; twice in one process."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    torch.set_num_threads(2)
    before, files = dict(os.environ), set(os.listdir("/proc/self/fd"))
    for index in range(2):
        run = Run(small(), tmp_path / f"run{index}")
        for _ in run.iterations():
            assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
        gc.collect()
        # What the first run opened for good (Matplotlib's fonts) the second must not open again.
        now = set(os.listdir("/proc/self/fd"))
        assert index == 0 or len(now) <= len(files)
        files = now
    assert dict(os.environ) == before


def test_in_another_thread(tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(train(small(), tmp_path / "run", verbosity=-1)))
    thread.start()
    thread.join(60)
    assert found and found[0].timesteps >= 640


@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupt_ends_the_cell_and_loses_nothing(kept: bool, tmp_path: Path) -> None:
    """Ctrl-C in the second iteration: it is finished, saved, and KeyboardInterrupt ends what follows."""
    folder = tmp_path / "run" if kept else None
    run = Run(with_signal(small(), iteration=2), folder, verbosity=-1)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run.finish()
    assert isinstance(stopped.value, Interrupted) and stopped.value.run is run
    assert stopped.value.exit_code == 130 and run.interrupted
    assert run.metrics["iteration"].tolist() == [1, 2] and run.policy().timesteps == run.timesteps > 0
    run.finish()
    assert not run.interrupted and run.timesteps >= 640


def test_a_second_interrupt_ends_it_at_once_but_not_the_process(tmp_path: Path) -> None:
    run = Run(with_signal(small(), iteration=2, times=2), tmp_path / "run", verbosity=-1)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run.finish()
    assert not isinstance(stopped.value, Interrupted)
    # The folder is free, and the first iteration, whose checkpoint was not due, is trained again.
    assert train(small(), tmp_path / "run", verbosity=-1).timesteps >= 640


def test_what_stands_still_is_reported_and_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(watchdog, "START_SECONDS", 0.0)
    monkeypatch.setattr(watchdog, "LAST_WORDS", 0.05)
    monkeypatch.setattr(watchdog.Watchdog, "_end_job", lambda self: ended.set())

    class Stands(Toy):
        def step(self, action: Any) -> Any:
            if self.steps == 3:
                ended.wait(20)
            return super().step(action)

    experiment = small(NAME, timesteps=128)
    experiment = replace(experiment, environment=replace(experiment.environment, factory=Stands))
    for timeout in (0.0, 0.3):
        ended.clear() if timeout else ended.set()
        train(experiment, verbosity=-1, stall_timeout=timeout).finish()
        assert ended.is_set()
        where = "Nothing was done for 0 s (stall_timeout). iteration 1: environment 0, step 4\n"
        assert (where in capfd.readouterr().err) == (timeout > 0)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="stall_timeout: seconds, or 0 for never, not"):
            train(small(), stall_timeout=wrong)


def test_failures_release_everything(tmp_path: Path) -> None:
    faulty = small(NAME, **{"environment.arguments.fault": "raise", "environment.arguments.at": 50})
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match="the wheel came off"):
            train(faulty, tmp_path / "run", verbosity=-1)
    run = train(faulty)
    with pytest.raises(EnvironmentFault):
        list(run.iterations())
    with pytest.raises(UsageError, match="was closed"):
        list(run.iterations())
    # Of the first iteration, in which each of four environments made 32 steps, one of them a reset.
    assert run.policy().timesteps == 4 * 31


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean ppo"):
        small().with_changes({"ppo.gama": 0.9})
    with pytest.raises(UsageError, match=r"ppo\.gamma=2"):
        small().with_changes({"ppo.gamma": 2})
    with pytest.raises(UsageError, match="device='gpu'"):
        small().with_changes(device="gpu")
    with pytest.raises(UsageError, match="wandb needs a folder"):
        train(small(), wandb="project").finish()
    with pytest.raises(UsageError, match="unknown environment 'CartPol'"):
        launcher_experiment("CartPol")


def test_changes_are_typed() -> None:
    changed = small().with_changes({"ppo.learning_rate": "1e-3:0", "network.actor_hidden": 8}, random_seed=7)
    assert (changed.ppo.learning_rate.start, changed.ppo.learning_rate.end) == (1e-3, 0.0)
    assert changed.network.actor_hidden == (8,) and changed.random_seed == 7
    assert changed.with_changes({"ppo.learning_rate": changed.ppo.learning_rate}) == changed


def test_scores_of_a_policy_and_of_a_function() -> None:
    run = train(small(timesteps=128), verbosity=-1)
    first, again = (evaluate(run.policy(), 3) for _ in range(2))
    assert (
        first.returns.tolist() == again.returns.tolist() and first.lengths.tolist() == first.returns.tolist()
    )
    assert first.mean == first.returns.mean() and first.std == first.returns.std()
    assert evaluate(run.policy(), 3, seed=1).returns.tolist() != first.returns.tolist()
    # CartPole's angle, raw: pushing towards where it falls holds it up for longer than always left.
    seen: list[Any] = []

    def follow(observation: Any) -> int:
        seen.append(observation)
        return int(observation[2] > 0)

    held = evaluate(follow, 5, environment="CartPole-v1")
    assert held.mean > 2 * evaluate(lambda _: 0, 5, environment=run.experiment.environment).mean
    assert {(one.shape, one.dtype.name) for one in seen} == {((4,), "float32")}
    with pytest.raises(UsageError, match="A function needs an environment"):
        evaluate(follow)


@pytest.mark.parametrize("size", [1, 2])
def test_all_ranks_have_the_run(size: int, tmp_path: Path) -> None:
    def program(communicator: Communicator) -> tuple[np.ndarray, int, list[float]]:
        run = Run(small(), communicator=communicator)
        losses = [metrics["policy_loss"] for metrics in run.iterations()]
        return weights(run), run.timesteps, losses

    results = run_threaded(size, program)
    for values, timesteps, losses in results[1:]:
        assert np.array_equal(values, results[0][0]) and (timesteps, losses) == results[0][1:]


SCRIPT = """
import sys
from ppo_and_friends import launcher_experiment, train
experiment = launcher_experiment(sys.argv[1]).with_changes(
    {"ppo.rollout_timesteps": 128, "ppo.minibatch_size": 64, "ppo.epochs": 1}, num_envs=4, num_timesteps=400
)
if len(sys.argv) > 3:
    fault = {"environment.arguments.fault": "raise", "environment.arguments.rank": 1}
    experiment = experiment.with_changes(fault)
run = train(experiment, sys.argv[2])
print("trained", run.timesteps, len(run.metrics["kl"]) > 0, run.policy().timesteps)
"""


@pytest.mark.slow
@pytest.mark.mpi
def test_under_mpirun(run_mpi: RunMPI, tmp_path: Path) -> None:
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    done = run_mpi(2, [str(script), "CartPole", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("trained")]
    assert len(lines) == 2 and len(set(lines)) == 1 and done.stdout.count("on 2 ranks") == 1
    failed = run_mpi(2, [str(script), NAME, str(tmp_path / "other"), "faulty"], cwd=ROOT)
    assert failed.returncode != 0 and "rank 1: " in failed.stderr and "the wheel came off" in failed.stderr


def test_the_package_stays_light() -> None:
    program = (
        "import sys, ppo_and_friends\nprint(len(dir(ppo_and_friends)) > 8)\n"
        "ppo_and_friends.launcher_experiment('CartPole').with_changes(num_envs=3)\n"
        "print([m for m in ('torch', 'numpy', 'gymnasium', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=clean_environment(), timeout=60
    )
    assert done.stdout.splitlines() == ["True", "[]"], done.stderr
