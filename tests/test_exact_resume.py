"""Exact resumption: a run that was interrupted is, to the bit, the one that wasn't, environments included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import load_latest, read_environments, save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture
from ppo_and_friends.runs.exact_resume import capture_environments, restore_environments
from ppo_and_friends.runs.restore import restore
from ppo_and_friends.settings.experiment import (
    AtariSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    friend,
)
from tests.command_line import latest, run, toy
from tests.friends.runs import build, drift, experiment
from tests.friends.test_together import compatible, spec


def everything(trainer: Trainer) -> dict[str, Any]:
    """All that a checkpoint would hold, copied. A collective."""
    tensors, state = capture(trainer, 0.0)
    environments = capture_environments(trainer) or {}
    return {name: tensor.detach().clone() for name, tensor in (tensors | environments).items()} | state


def assert_equal(one: dict[str, Any], other: dict[str, Any], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(
                other[name], value, rtol=tolerance, atol=tolerance, equal_nan=True, msg=name
            )
        elif not tolerance:
            np.testing.assert_equal(other[name], value, err_msg=name)


def save(trainer: Trainer, folder: Path) -> None:
    """A checkpoint, by rank 0. A collective."""
    tensors, state = capture(trainer, 1.0)
    environments = capture_environments(trainer)
    if trainer.communicator.is_main:
        save_checkpoint(folder, trainer.timesteps, tensors, state, environments=environments)
    trainer.communicator.barrier()


def resumed(chosen: Experiment, folder: Path, communicator: Communicator | None = None) -> Trainer:
    trainer = build(chosen, communicator)
    saved = load_latest(folder)
    assert saved is not None
    assert restore(trainer, saved) == []
    return trainer


def check(
    chosen: Experiment, folder: Path, before: int = 2, after: int = 2, second: Experiment | None = None
) -> None:
    """Some iterations, saved and resumed, and some more, are as many in one go."""
    chosen = replace(chosen, exact_resume=True)
    whole = build(chosen)
    for _ in range(before + after):
        whole.train_iteration()
    parts = build(chosen)
    for _ in range(before):
        parts.train_iteration()
    save(parts, folder)
    last = resumed(second or chosen, folder)
    for _ in range(after):
        last.train_iteration()
    assert_equal(everything(whole), everything(last))
    for trainer in (whole, parts, last):
        trainer.collector.envs.close()


def exactly(id: str, rollout: int = 80, friends: Any = (), **settings: Any) -> Experiment:
    environment = settings.pop("environment", {})
    network = {"actor_hidden": (8,), "critic_hidden": (8,)} | settings.pop("network", {})
    return Experiment(
        name="Exact",
        environment=EnvironmentSettings(id=id, num_envs=4, backend="gymnasium", **environment),
        ppo=PPOSettings(rollout_timesteps=rollout, minibatch_size=40, epochs=2),
        network=NetworkSettings(**network),
        friends=tuple(friends),
        device="cpu",
        exact_resume=True,
        **settings,
    )


NORMALIZERS = (friend("ObservationNormalizer"), friend("RewardNormalizer"), friend("SegmentLength", steps=7))


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_classic_control(id: str, tmp_path: Path) -> None:
    check(exactly(id, friends=NORMALIZERS), tmp_path)


def test_hopper(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    check(exactly("Hopper-v5", friends=NORMALIZERS), tmp_path)


def test_breakout(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    atari = AtariSettings(observation="ram", noop_max=5)
    check(exactly("BreakoutNoFrameskip-v4", environment={"atari": atari}, rollout=40), tmp_path)


def test_then_in_processes_of_their_own(tmp_path: Path) -> None:
    """The engine ``async`` goes on from what Gymnasium's has saved, and saves the same in the end."""
    chosen = exactly("CartPole-v1", friends=NORMALIZERS)
    check(chosen, tmp_path, second=replace(chosen, environment=replace(chosen.environment, backend="async")))


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_memory_of_the_policy_and_of_friends(memory: str, tmp_path: Path) -> None:
    friends = (friend("PreviousAction"), friend("ObservationHistory", length=3), *NORMALIZERS)
    chosen = exactly("CartPole-v1", friends=friends, network={"memory": memory, "memory_width": 5})
    check(chosen, tmp_path)


def test_tasks_that_change_attributes_and_arguments(tmp_path: Path) -> None:
    varied = friend(
        "DomainRandomisation",
        scales={"gravity": (0.5, 2.0)},
        arguments={"sutton_barto_reward": (False, True)},
    )
    check(exactly("CartPole-v1", friends=(varied,)), tmp_path)


def test_action_masks(tmp_path: Path) -> None:
    check(exactly("Taxi-v4"), tmp_path)


class Own(gymnasium.Env[Any, Any]):
    """Hides its state where nobody finds it, and says it when asked."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self._hidden = iter([0.0])
        self._numbers = self._endless(0.0, 0)

    def _endless(self, place: float, t: int) -> Any:
        while True:
            self._state = [place, t]
            place += yield np.array([place, t], np.float32)
            t += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._numbers = self._endless(float(self.np_random.normal()), 0)
        return next(self._numbers), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen = self._numbers.send(float(action) - 0.5 + 0.1 * float(self.np_random.normal()))
        return seen, -abs(float(seen[0])), False, bool(seen[1] >= 9), {}

    def get_state(self) -> list[Any]:
        return self._state

    def set_state(self, state: Any) -> None:
        self._numbers = self._endless(*state)
        next(self._numbers)


def test_an_environment_that_says_its_state_itself(tmp_path: Path) -> None:
    check(exactly("tests.test_exact_resume:Own"), tmp_path)


def exact_drift(friends: Any, space: Any = None, **settings: Any) -> Experiment:
    return replace(experiment(friends, drift(space), **settings), exact_resume=True)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_friend(name: str, tmp_path: Path) -> None:
    check(exact_drift([spec(name)]), tmp_path, 1, 2)


@pytest.mark.parametrize("draw", range(2))
def test_friends_together(draw: int, tmp_path: Path) -> None:
    random = np.random.default_rng(200 + draw)
    space = [spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)][draw]
    names = compatible(random.permutation(sorted(BUILT_IN)).tolist()[:12], space)
    check(exact_drift([spec(name, space) for name in names], space), tmp_path)


def test_on_other_numbers_of_ranks(tmp_path: Path) -> None:
    """1 rank, then 3, then 2: in double precision what 1 rank does, up to the order of sums."""
    chosen = exact_drift(
        [
            friend("ObservationHistory", length=2),
            friend("RewardNormalizer"),
            friend("SegmentLength", steps=3),
        ],
        precision="float64",
    )

    def part(size: int, iterations: int) -> dict[str, Any]:
        def work(communicator: Communicator) -> dict[str, Any]:
            begun = (tmp_path / "latest").exists()
            communicator.barrier()
            trainer = resumed(chosen, tmp_path, communicator) if begun else build(chosen, communicator)
            for _ in range(iterations):
                trainer.train_iteration()
            save(trainer, tmp_path)
            return everything(trainer)

        return run_threaded(size, work)[0] if size > 1 else work(SoloCommunicator())

    for size in (1, 3, 2):
        last = part(size, 2)
    whole = build(chosen)
    for _ in range(6):
        whole.train_iteration()
    expected = everything(whole)
    for name in ("environments.bytes", "environments.sizes"):  # text of numbers, whose last digits differ
        del last[name], expected[name]
    assert_equal(expected, last, tolerance=1e-9)


def test_the_command_line(tmp_path: Path) -> None:
    """Interrupted amid episodes, and once more amid a rollout, which is given up."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ("--exact_resume", "--with=RewardNormalizer")
    assert run(*toy(whole, *arguments)).status == 0
    assert run(*toy(parts, *arguments, "--with=tests.toys:SignalAt:iteration=2")).status == 130
    given_up = run(*toy(parts, *arguments, "--with=tests.toys:SignalAt:iteration=4,number=15", "--grace=0"))
    assert given_up.status == 143 and "given up" in given_up.out and latest(parts).state["iteration"] == 3
    again = run(*toy(parts, *arguments))
    assert again.status == 0 and "new episodes" not in again.out
    found = [latest(whole), latest(parts)]
    assert found[0].tensors.keys() == found[1].tensors.keys()
    for name, tensor in found[0].tensors.items():
        assert torch.equal(tensor, found[1].tensors[name]), name
    files = [read_environments(each) or {} for each in found]
    assert files[0].keys() == files[1].keys() and "environments.bytes" in files[0]
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())


def forged(tensors: dict[str, torch.Tensor], what: str) -> None:
    rows = "rows.trainer.collector.state"
    match what:
        case "no sizes":
            del tensors["environments.sizes"]
        case "negative sizes":
            tensors["environments.sizes"] = torch.tensor([-5, 10, 3, 3, 3])
        case "too few bytes":
            tensors["environments.bytes"] = tensors["environments.bytes"][:-1]
        case "bytes of nothing":
            tensors["environments.bytes"] = torch.zeros_like(tensors["environments.bytes"])
        case "bytes of anything":
            draw = torch.Generator().manual_seed(1)
            tensors["environments.bytes"].random_(0, 256, generator=draw)
        case "no row":
            del tensors[rows]
        case "too few rows":
            tensors[rows] = tensors[rows][:3]
        case "rows of another size":
            tensors[rows] = torch.zeros(5, 2)
        case "NaN":
            tensors["rows.friends.RewardNormalizer.running"][2] = float("nan")


@pytest.mark.parametrize(
    "what",
    [
        *("no sizes", "negative sizes", "too few bytes", "bytes of nothing", "bytes of anything"),
        *("no row", "too few rows", "rows of another size", "NaN"),
    ],
)
def test_content_that_is_no_runs_is_refused(what: str, tmp_path: Path) -> None:
    chosen = exact_drift([friend("RewardNormalizer")])
    trainer = build(chosen)
    trainer.train_iteration()
    save(trainer, tmp_path)
    saved = load_latest(tmp_path)
    assert saved is not None
    tensors = read_environments(saved)
    assert tensors is not None
    forged(tensors, what)
    with pytest.raises(CheckpointError, match=r"is damaged: environments\.safetensors: "):
        restore_environments(build(chosen), saved, tensors)


def test_without_saved_states_a_notice_says_so(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, timesteps=256)).status == 0
    found = latest(tmp_path)
    assert read_environments(found) is None and not list(found.path.glob("environments*"))
    done = run(*toy(tmp_path, "--exact_resume"))
    assert done.status == 0
    assert "has no states of environments (it was saved without --exact_resume)" in done.out


def test_engines_that_can_not_are_named(tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    command = ("-e", "CartPole", "--state_path", tmp_path, "--exact_resume")
    done = run(*command, "--set=environment.backend=envpool")
    assert done.status == 2
    assert "'envpool' can't save" in done.err and "environment.backend=gymnasium" in done.err


class Clock(Own):
    """Depends on what nobody saves."""

    time = 0.0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Clock.time += 1.0
        seen, reward, *rest = super().step(action)
        return seen, reward + Clock.time, *rest


class Chance(Own):
    """Begins its episodes at random, as nobody can repeat."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._numbers = self._endless(float(np.random.normal()), -1000)
        return next(self._numbers), {}


class Hidden(Clock):
    """Doesn't say its state."""

    get_state = None  # type: ignore[assignment]


class Late(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Remembers after a hundred steps what nobody can save."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 100:
            self.secret = iter([1])
        return self.env.step(action)


@pytest.mark.parametrize(
    ("id", "complaint"),
    [
        ("tests.test_exact_resume:Clock", "step 1 gave something else"),
        ("tests.test_exact_resume:Chance", "another environment, step 21 gave something else"),
        ("tests.test_exact_resume:Hidden", "can't be saved: env._hidden (list_iterator)."),
        ("LunarLander-v3", "b2World, of Box2D).\nNo engine can save Box2D's world"),
    ],
)
def test_environments_that_can_not_are_refused_at_the_start(id: str, complaint: str, tmp_path: Path) -> None:
    if id.startswith("LunarLander"):
        pytest.importorskip("Box2D")
    done = run("-e", id, "--state_path", tmp_path, "--exact_resume", "--num_timesteps=100")
    assert done.status == 2 and len(done.complaint) == 2
    assert complaint in done.err
    assert not list(tmp_path.glob("*/checkpoints/*"))


def test_what_can_not_be_saved_any_more_is_said_and_the_rest_is_saved(tmp_path: Path) -> None:
    wrapped = "--set=environment.wrappers=tests.test_exact_resume:Late"
    done = run(*toy(tmp_path, "--exact_resume", wrapped))
    assert done.status == 0
    assert "env.secret (list_iterator). This checkpoint can't be resumed exactly" in done.err + done.out
    assert read_environments(latest(tmp_path)) is None


def test_a_damaged_file_is_refused_and_the_checkpoint_before_is_taken(tmp_path: Path) -> None:
    command = toy(tmp_path, "--exact_resume", "--set=checkpoint_seconds=0", timesteps=384)
    assert run(*command).status == 0
    newest = latest(tmp_path)
    file = newest.path / "environments.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = run(*command, "--num_timesteps=640")
    assert done.status == 0
    assert "environments.safetensors: it doesn't match its checksum" in done.out
    assert "Falling back" in done.out
