"""A policy that is taught by one that sees more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.distributed.replication import assert_replicated
from ppo_and_friends.errors import UsageError
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings, friend
from tests.beginnings import begun
from tests.engine import experiment, on_ranks

ID = "tests.beginnings:Privileged"


def settings(*friends: Any, critic: tuple[str, ...] = ("goal",), **changes: Any) -> Experiment:
    network = {"actor_hidden": (16,), "critic_hidden": (16,), "actor_output_gain": 1.0}
    memory = {name: changes.pop(name) for name in ("memory", "memory_width") if name in changes}
    id = changes.pop("id", ID)
    chosen = {"rollout_timesteps": 6 * 20, "minibatch_size": 40, "epochs": 4, "learning_rate": 0.01} | changes
    environment = EnvironmentSettings(id=id, num_envs=6, backend="gymnasium", critic_observations=critic)
    made = NetworkSettings(**(network | memory))  # type: ignore[arg-type]
    return experiment(environment, friends, network=made, precision="float64", num_envs=6, **chosen)


def teacher(**changes: Any) -> str:
    """A policy with statistics of its own that follows what it sees."""
    return begun(settings(friend("ObservationNormalizer"), critic=(), **changes))


def distance(trainer: Trainer, iterations: int) -> list[float]:
    return [trainer.train_iteration()["Distillation/loss"] for _ in range(iterations)]


@pytest.mark.parametrize("remembers", ["nobody", "teacher", "student"])
def test_the_policy_comes_near_its_teacher(remembers: str) -> None:
    memory = {"memory": "gru", "memory_width": 6}
    path = teacher(**(memory if remembers == "teacher" else {}))
    # Nothing but the teacher: advantages of rewards that are worth nothing.
    friends = (friend("RewardScale", factor=1e-9), friend("Distillation", teacher=path, coefficient=1.0))
    chosen = settings(*friends, **(memory if remembers == "student" else {}))
    (found,) = on_ranks(chosen, 1, lambda trainer, _: distance(trainer, 25))
    assert found[0] > 0.02 and found[-1] < 0.4 * found[0]


def test_it_asks_what_the_teacher_itself_would_do() -> None:
    path = teacher()

    def work(trainer: Trainer, _: Any) -> None:
        trainer.train_iteration()
        rollout = trainer.collect()
        own = next(each for each in trainer.friends if each.name == "Distillation")
        agent = own._teacher.agent
        # Here no friend changes what the critic sees.
        raw = rollout.observations["critic"][:-1].flatten(0, 1).numpy()
        seen = agent.friends.transform(raw, None)
        wanted = agent.network.policy(torch.from_numpy(seen)).detach()
        torch.testing.assert_close(own._wanted, wanted)
        assert own._known.all()

    chosen = settings(friend("Distillation", teacher=path))
    on_ranks(chosen, 1, work)

    def first(trainer: Trainer, _: Any) -> None:
        trainer.collect()
        own = next(each for each in trainer.friends if each.name == "Distillation")
        assert own._known[0].sum() == 0 and own._known[1:].all()

    on_ranks(chosen, 1, first)


def test_the_number_of_ranks_does_not_matter() -> None:
    chosen = settings(friend("ObservationNormalizer"), friend("Distillation", teacher=teacher()))

    def work(trainer: Trainer, communicator: Any) -> dict[str, Any]:
        for _ in range(3):
            trainer.train_iteration()
        found = {name: tensor.detach().numpy().copy() for name, tensor in trainer.agent.tensors().items()}
        assert_replicated(communicator, found)
        return found

    (alone,) = on_ranks(chosen, 1, work)
    for name, value in on_ranks(chosen, 3, work)[1].items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_what_does_not_fit_is_refused() -> None:
    path = teacher()
    for chosen, told in (
        (settings(friend("Distillation", teacher=path), critic=()), "environment.critic_observations"),
        (settings(friend("Distillation", teacher="nowhere")), "No trained policy in nowhere"),
        (settings(friend("Distillation", teacher=begun(settings()))), r"observations of shape \[2\]"),
    ):
        with pytest.raises(UsageError, match=told) as caught:
            on_ranks(chosen, 1, lambda trainer, _: trainer.train_iteration())
        assert len(str(caught.value).splitlines()) <= 2
