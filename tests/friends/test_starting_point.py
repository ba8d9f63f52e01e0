"""Runs that begin with something: another run's policy, a file of episodes; and what holds them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from ppo_and_friends import Run, load_policy
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment, friend
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.studies.pack import pack
from tests.beginnings import begun
from tests.command_line import run as command
from tests.command_line import spawn, toy
from tests.toys import FOLDER, NAME, Toy


def small(*friends: Any, **changes: Any) -> Experiment:
    experiment = resolve(NAME).with_changes(
        {
            "ppo.rollout_timesteps": 128,
            "ppo.minibatch_size": 64,
            "ppo.epochs": 2,
            "network.actor_hidden": (16,),
            "network.critic_hidden": (16,),
            **changes,
        },
        num_envs=4,
        num_timesteps=600,
    )
    values = dict(vars(experiment)) | {"friends": (*experiment.friends, *friends)}
    return Experiment(**{name: value for name, value in values.items() if not name.startswith("__")})


def after(experiment: Experiment, iterations: int) -> dict[str, torch.Tensor]:
    """The agent's tensors after some iterations."""
    run = Run(experiment, communicator=SoloCommunicator(), verbosity=-1)
    for count, _ in enumerate(run.iterations(), 1):
        if count == iterations:
            break
    tensors = {name: t.clone() for name, t in run.policy().agent.tensors().items()}
    run.close()
    return tensors


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("state")
    assert command(*toy(home)).status == 0
    return home / FOLDER


STILL = {"ppo.learning_rate": 0.0}
"""Nothing is learned, so that what was taken over can be seen."""


@pytest.mark.parametrize("packed", [False, True])
def test_network_and_normalizers_are_taken_over(trained: Path, packed: bool, tmp_path: Path):
    source = pack(trained, tmp_path / "toy.zip", episodes=1) if packed else trained
    saved = load_policy(trained).agent.tensors()
    tensors = after(small(friend("InitFrom", run=str(source)), **STILL), 1)
    for name in saved:
        if name.startswith("network."):
            assert torch.equal(tensors[name], saved[name]), name
    # The normaliser went on from the saved count with this rollout's observations.
    count = "friends.ObservationNormalizer.count"
    assert saved[count] > 600 and tensors[count] == saved[count] + 128


@pytest.mark.parametrize(("parts", "taken"), [("actor", "actor.0.weight"), ("critic", "critic.0.weight")])
def test_a_part_alone_is_taken_over(trained: Path, parts: str, taken: str):
    saved = load_policy(trained).agent.tensors()
    fresh = after(small(**STILL), 1)
    tensors = after(small(friend("InitFrom", run=str(trained), parts=parts, normalizers=False), **STILL), 1)
    names = [name for name in saved if name.endswith("weight") and name.startswith("network.")]
    assert any(taken in name for name in names)
    for name in names:
        of_actor = any(part in name for part in ("network.actor", "policy_head"))
        expected = saved if of_actor == (parts == "actor") else fresh
        assert torch.equal(tensors[name], expected[name]), name


def test_frozen_layers_stay_until_their_time_is_over(trained: Path):
    saved = load_policy(trained).agent.tensors()

    def frozen(timesteps: int) -> dict[str, torch.Tensor]:
        spec = friend("InitFrom", run=str(trained), freeze="actor", freeze_timesteps=timesteps)
        return after(small(spec), 3)

    # However few they are, the iteration in which they end is frozen to its end.
    first = after(small(friend("InitFrom", run=str(trained), freeze="actor", freeze_timesteps=1)), 1)
    held, freed = frozen(10_000), frozen(200)
    actor = [name for name in saved if name.startswith(("network.actor.", "network.policy_head."))]
    assert actor and all(torch.equal(held[name], saved[name]) for name in actor)
    assert all(torch.equal(first[name], saved[name]) for name in actor)
    assert not torch.equal(held["network.value_head.weight"], saved["network.value_head.weight"])
    assert not any(torch.equal(freed[name], saved[name]) for name in actor if name.endswith("weight"))


def test_what_does_not_fit_is_refused_by_name(trained: Path, tmp_path: Path):
    start = f"--init_from={trained}"
    for more, told in (
        (("--set=environment.arguments.size=5",), "InitFrom: the observation space is"),
        (("--set=network.actor_hidden=8",), "network.actor.0.weight has shape [8, 3] here, but [16, 3]"),
    ):
        done = command(*toy(tmp_path / "state", start, *more))
        assert done.status == 2 and told in done.err and len(done.complaint) <= 2, done.err
    done = command("-e", "CartPole", "--state_path", tmp_path, f"--init_from={tmp_path / 'no'}", "-q")
    assert done.status == 2 and "No trained policy in" in done.err
    for arguments in ({"freeze": "actor"}, {"freeze_timesteps": 5}, {"freeze": "x", "freeze_timesteps": 5}):
        with pytest.raises(UsageError, match="freeze"):
            after(small(friend("InitFrom", run=str(trained), **arguments)), 1)


def test_a_resumed_run_goes_on_with_its_own(trained: Path, tmp_path: Path):
    start = f"--init_from={trained}"
    assert command(*toy(tmp_path / "halves", start, timesteps=300)).status == 0
    assert command(*toy(tmp_path / "halves", start)).status == 0
    policy = load_policy(tmp_path / "halves" / FOLDER)
    assert policy.agent.tensors()["friends.InitFrom.loaded"] == 1.0
    assert policy.timesteps >= 600


@pytest.mark.slow
@pytest.mark.mpi
def test_ranks_begin_alike(trained: Path, mpirun_path: str, tmp_path: Path):
    # Training checks, when it saves, that all ranks are equal.
    options = toy(tmp_path, f"--init_from={trained}", "--with=KLAnchor")
    done = spawn(*options, before=(mpirun_path, "-n", "2"))
    assert done.status == 0, done.err


def test_the_anchor_holds_and_fades(trained: Path):
    saved = load_policy(trained).agent.tensors()

    def moved(coefficient: str) -> float:
        anchor = friend("KLAnchor", coefficient=coefficient)
        tensors = after(small(friend("InitFrom", run=str(trained)), anchor, **{"ppo.learning_rate": 0.01}), 3)
        weight = "network.policy_head.output.weight"
        name = next(n for n in tensors if n.startswith("network.policy_head") and n.endswith("weight"))
        assert weight.startswith("network.policy_head")
        # The anchor is the policy that was taken over, whatever was learned since.
        assert torch.equal(tensors["friends.KLAnchor.anchor." + name.removeprefix("network.")], saved[name])
        return float((tensors[name] - saved[name]).norm())

    assert moved("100") < 0.5 * moved("0")
    run = Run(small(friend("KLAnchor", coefficient="0.5:0")), communicator=SoloCommunicator(), verbosity=-1)
    betas = [row["KLAnchor/coefficient"] for row in run.iterations()]
    assert betas[0] == 0.5 and betas == sorted(betas, reverse=True) and betas[-1] < 0.2


def write_dataset(folder: Path, action: int, episodes: int = 10) -> Path:
    """A Minari data set of the toy, in which always the same action is taken."""
    minari = pytest.importorskip("minari", reason="the extra [minari]")
    from minari.data_collector import EpisodeBuffer

    generator = np.random.default_rng(0)
    buffers = []
    env = Toy()
    for _ in range(episodes):
        observation, _ = env.reset(seed=int(generator.integers(1000)))
        seen, rewards = [observation], []
        for _ in range(20):
            observation, reward, *_ = env.step(action)
            seen.append(observation)
            rewards.append(reward)
        buffers.append(
            EpisodeBuffer(
                observations=seen,
                actions=[np.int64(action)] * 20,
                rewards=rewards,
                terminations=[False] * 20,
                truncations=[False] * 19 + [True],
                infos={},
            )
        )
    minari.create_dataset_from_buffers(
        "toy/always-v0", buffers, observation_space=env.observation_space, action_space=env.action_space
    )
    return folder / "toy" / "always-v0"


@pytest.mark.parametrize("action", [0, 1])
def test_behaviour_is_cloned_before_ppo_begins(action: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    folder = write_dataset(tmp_path, action)
    experiment = small(
        friend("BehaviourCloning", dataset=str(folder), epochs=30, learning_rate=0.01), **STILL
    )
    run = Run(experiment, communicator=SoloCommunicator(), verbosity=-1)
    row = next(iter(run.iterations()))
    # A uniform policy has log 2 = 0.69; of what is always done, little is left.
    assert row["BehaviourCloning/loss"] < 0.1
    policy = run.policy()
    observations = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    observations[:, 2] = 0.0
    assert (policy(observations) == action).mean() > 0.95
    # 200 steps of the data set, then 128 of the first rollout, of which some are resets.
    assert policy.agent.tensors()["friends.ObservationNormalizer.count"] == 200 + 128
    run.close()


def test_a_dataset_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    folder = write_dataset(tmp_path, 1)
    wrong = small(friend("BehaviourCloning", dataset=str(folder)), **{"environment.arguments": {"size": 5}})
    with pytest.raises(UsageError, match="the observation space is"):
        after(wrong, 1)
    with pytest.raises(UsageError, match="can't be read"):
        after(small(friend("BehaviourCloning", dataset=str(tmp_path / "nothing"))), 1)
    assert gymnasium.__version__


class TooManyActions:
    observation_space = Toy().observation_space
    action_space = gymnasium.spaces.Discrete(3)

    def iterate_episodes(self) -> None: ...


@pytest.mark.parametrize(
    ("dataset", "told"),
    [("os:getcwd", "has no observation_space"), (f"{__name__}:TooManyActions", "the action space is")],
)
def test_an_object_that_is_no_fitting_dataset_is_refused(dataset: str, told: str):
    with pytest.raises(UsageError, match=told):
        after(small(friend("BehaviourCloning", dataset=dataset)), 1)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("parts", ["all", "actor", "critic"])
def test_a_memory_is_taken_over_with_its_part(parts: str, shared: bool):
    memory = {"network.memory": "gru", "network.memory_width": 6, "network.memory_shared": shared}
    other = small(**memory, random_seed=5)
    saved, fresh = after(other, 1), after(small(**memory, **STILL), 1)
    tensors = after(small(friend("InitFrom", run=begun(other), parts=parts), **memory, **STILL), 1)
    for name in fresh:
        if name.startswith("network.") and "weight" in name:
            of_critic = any(part in name for part in (".critic", "value_head"))
            common = shared and ".memory" in name
            taken = common or parts in ("all", "critic" if of_critic else "actor")
            assert torch.equal(tensors[name], (saved if taken else fresh)[name]), name


@pytest.mark.parametrize(
    "spec", [friend("KLAnchor"), friend("BehaviourCloning", dataset="tests.beginnings:Played")]
)
def test_what_learns_from_single_steps_refuses_a_memory(spec: Any):
    with pytest.raises(UsageError, match=f"{spec.name} can't work with a policy that has memory"):
        after(small(spec, **{"network.memory": "lstm"}), 1)
