"""Training with memory: what is stored, on any number of ranks, resumed, loaded, exported; and friends."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends import load_policy
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import BUILT_IN, find_friend
from ppo_and_friends.ppo.minibatches import MinibatchSource, chunk_length
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import FriendSpec, NetworkSettings
from tests.command_line import latest, rows, run, toy
from tests.engine import Episodes, experiment, on_ranks
from tests.friends.runs import assert_same_on_any_ranks, build, trained
from tests.friends.runs import experiment as with_friends
from tests.friends.test_together import spec
from tests.test_trained_policy import saved

MEMORY = {"memory": "lstm", "memory_width": 6}


def settings(**changes: Any) -> Any:
    network = NetworkSettings(**{"actor_hidden": (8,), "critic_hidden": (8,)} | MEMORY | changes)
    sizes = {"num_envs": 4, "rollout_timesteps": 64, "minibatch_size": 32, "sequence_length": 4}
    return experiment(partial(Episodes, (3, 7)), network=network, precision="float64", **sizes)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_the_update_begins_with_what_acted(memory: str) -> None:
    """Over two rollouts, so that states are carried over: every ratio is 1 before the first step."""

    def work(trainer: Trainer, _: Any) -> None:
        for _ in range(2):
            rollout = trainer.collect()
            trainer.estimate(rollout)
            assert rollout.states.shape == (5, 4, trainer.network.state_size) and rollout.sequence_length == 4
            # Where a chunk begins with an episode's first observation, what was before doesn't matter.
            state = rollout.states[0]
            for t in range(rollout.steps):
                state = state * ~rollout.episode_starts[t].unsqueeze(-1)
                if t % 4 == 0:
                    stored = rollout.states[t // 4] * ~rollout.episode_starts[t].unsqueeze(-1)
                    torch.testing.assert_close(stored, state)
                parameters, state = trainer.network.step({"policy": rollout.observations["policy"][t]}, state)
                torch.testing.assert_close(rollout.policy_parameters[t], parameters)
            torch.testing.assert_close(rollout.states[-1], state)
            order = np.stack([np.random.default_rng(b).permutation(4) for b in range(4)], axis=1)
            seen = []
            for minibatch in MinibatchSource(rollout).epoch(order, [(0, 1), (1, 4)], np.ones(2)):
                minibatch.evaluate(trainer.network)
                torch.testing.assert_close(minibatch.policy_parameters, minibatch.old_policy_parameters)
                torch.testing.assert_close(minibatch.value_outputs, minibatch.old_value_outputs)
                chunks = minibatch.samples.unflatten(0, (4, -1))
                assert (chunks[1:] == chunks[:-1] + 4).all() and (chunks[0] // 4 % 4 == 0).all()
                seen += minibatch.samples.tolist()
            assert sorted(seen) == list(range(64))
            first = trainer.improve(rollout, trainer._scheduled_controls(0.0, {}))
            assert np.isfinite(first["policy_loss"])

    on_ranks(settings(memory=memory), 1, work)


def test_the_same_on_any_number_of_ranks() -> None:
    chosen = with_friends(
        [spec("ObservationNormalizer"), spec("ICM"), spec("AdvantageNormalizer")],
        network=MEMORY | {"memory_layers": 2},
        ppo={"sequence_length": 8},
    )
    assert_same_on_any_ranks(chosen, (3,))


@pytest.mark.parametrize(
    ("asked", "steps", "memory", "expected"),
    [
        (None, 128, False, 1),
        (None, 128, True, 16),
        (None, 18, True, 9),
        (None, 3, True, 3),
        (None, 20, True, 10),
        (2, 34, True, 2),
        (4, 8, False, 4),
    ],
)
def test_the_length_of_chunks(asked: int | None, steps: int, memory: bool, expected: int) -> None:
    assert chunk_length(asked, steps, memory=memory) == expected


def test_a_length_that_does_not_divide_the_rollout_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"sequence_length=5 doesn't divide the 16 steps .* set it to 2, 4, 8,"
    ):
        build(with_friends(network=MEMORY, ppo={"sequence_length": 5}))


@pytest.mark.parametrize(("steps", "found"), [(17, 1), (34, 2), (51, 3)])
def test_steps_that_only_short_chunks_divide_are_refused(steps: int, found: int) -> None:
    with pytest.raises(UsageError, match=f"of the {steps} steps .* only chunks of {found} can be made"):
        chunk_length(None, steps, memory=True)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_friend_works_with_memory_or_refuses_by_name(name: str) -> None:
    chosen = with_friends([spec(name)], network=MEMORY)
    if not find_friend(name).works_with_memory:
        with pytest.raises(UsageError, match=f"{name} can't work with a policy that has memory"):
            build(chosen)
        return
    trainer, stats = trained(chosen)
    assert trainer.optimizer.parameters.isfinite().all()
    assert np.isfinite([stats["policy_loss"], stats["value_loss"], stats["kl"]]).all()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("shared", [False, True])
def test_split_observations_before_a_memory(place: str, shared: bool) -> None:
    network = MEMORY | {"memory_place": place, "memory_shared": shared}
    trainer, _ = trained(
        with_friends([FriendSpec("SplitObservations", {"exteroceptive": (1,)})], network=network)
    )
    assert trainer.network.actor_encoder.features == 128  # type: ignore[attr-defined]


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    options = ("--with=HardReset", "--set=network.memory=gru", "--set=network.memory_width=6")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*toy(whole, *options)).status == 0
    assert run(*toy(parts, *options, "--with=tests.toys:SignalAt:iteration=2")).status == 130
    assert run(*toy(parts, *options)).status == 0
    assert rows(whole) == rows(parts)
    first, second = latest(whole), latest(parts)
    assert any("memory.cells" in name for name in first.tensors)
    for name, tensor in first.tensors.items():
        assert torch.equal(second.tensors[name], tensor), name


def trained_policy(folder: Path) -> Any:
    chosen = experiment(
        "CartPole-v1",
        network=NetworkSettings(**MEMORY, actor_output_gain=1.0, actor_hidden=(8,), critic_hidden=(8,)),
        num_envs=4, rollout_timesteps=64, minibatch_size=32,
    )  # fmt: skip
    saved(folder, chosen, 1)
    return load_policy(folder)


def test_a_loaded_policy_remembers_until_it_is_reset(tmp_path: Path) -> None:
    policy = trained_policy(tmp_path)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(6, 3, 4)).astype(np.float32)

    def parameters() -> Any:
        return policy._policy._state.clone()

    for observations in seen[:3]:
        policy(observations)
    together = parameters()
    # Row 1 alone, then rows begun anew in the midst of a batch.
    with pytest.raises(
        UsageError, match=r"remembers the episodes of 3 row\(s\), but is called with 1: call reset"
    ):
        policy(seen[0, 1])
    policy.reset()
    for observations in seen[:3, 1]:
        policy(observations)
    torch.testing.assert_close(parameters()[0], together[1])
    policy.reset()
    for t, observations in enumerate(seen[:4]):
        if t == 3:
            policy.reset(rows=[True, False, False])
        policy(observations)
    mixed = parameters()
    policy.reset()
    policy(seen[3])
    torch.testing.assert_close(mixed[0], parameters()[0])
    assert not torch.allclose(mixed[1], parameters()[1])


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_the_exported_policy_takes_its_state_and_gives_it_back(tmp_path: Path, memory: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from ppo_and_friends.policy.export import export_onnx

    chosen = experiment(
        "Pendulum-v1",
        (spec("ObservationNormalizer"), spec("PreviousAction")),
        network=NetworkSettings(
            **MEMORY | {"memory": memory, "memory_layers": 2}, actor_hidden=(8,), actor_output_gain=1.0
        ),
        num_envs=4, rollout_timesteps=64, minibatch_size=32,
    )  # fmt: skip
    saved(tmp_path, chosen, 1)
    policy = load_policy(tmp_path)
    path = export_onnx(policy, tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    assert names == ["observations", "state.PreviousAction", "state.memory"]
    sizes = {each.name: each.shape[1] for each in session.get_inputs()}
    state = {name: np.zeros((3, sizes[name]), np.float32) for name in names[1:]}
    for observations in np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32):
        actions, *following = session.run(None, {"observations": observations, **state})
        np.testing.assert_allclose(actions, policy(observations), rtol=1e-4, atol=1e-5)
        state = dict(zip(state, following, strict=True))
